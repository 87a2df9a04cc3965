// Command supply says where the files of a release come from, signs them, and checks that.
//
//	supply keygen KEY                        writes a private key, and the public one to KEY.pub
//	supply provenance FOLDER SOURCE REVISION VERSION BUILDER PROGRAM…
//	                                         writes FOLDER/provenance.intoto.json about the files of FOLDER
//	supply sign KEY FOLDER                   writes FILE.sigstore.json for each file of FOLDER
//	supply verify PUBLIC FOLDER              checks all of them; fails if one is missing or is about another file
//
// Private keys are encrypted with the password in COSIGN_PASSWORD. Keys and signatures are those of cosign, which can
// make and check them too. Nothing uses the network.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

const usage = "usage: supply keygen KEY | provenance FOLDER SOURCE REVISION VERSION BUILDER PROGRAM… | " +
	"sign KEY FOLDER | verify PUBLIC FOLDER"

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "supply:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch {
	case command == "keygen" && len(args) == 2:
		return generateKey(args[1])
	case command == "provenance" && len(args) > 6:
		return writeProvenance(args[1], build{source: args[2], revision: args[3], version: args[4], builder: args[5],
			programs: args[6:]})
	case command == "sign" && len(args) == 3:
		return signFolder(ctx, args[1], args[2])
	case command == "verify" && len(args) == 3:
		return verifyFolder(args[1], args[2])
	}
	return errors.New(usage)
}
