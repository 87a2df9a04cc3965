// Command publish writes the contracts in the forms that programs outside this repository read: a descriptor set for
// grpcurl and others that read no .proto files, and the .proto files with everything that they import, for the
// generators and loaders of other languages.
//
//	publish ROOT OUT            writes OUT/purser.protoset and the folder OUT/contracts
//	publish ROOT OUT VERSION    writes OUT/purser.protoset and OUT/purser-contracts.tar.gz, whose one folder is
//	                            purser-contracts-VERSION
//
// ROOT is a checkout. The same contracts give the same bytes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "publish:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return errors.New("usage: publish ROOT OUT [VERSION]")
	}
	root, out := args[0], args[1]
	c, err := compile(ctx, root)
	if err != nil {
		return err
	}
	set, err := c.set()
	if err != nil {
		return err
	}
	files, err := c.files(root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if err := replace(filepath.Join(out, "purser.protoset"), set); err != nil {
		return err
	}
	if len(args) == 3 {
		b, err := archive("purser-contracts-"+args[2], files)
		if err != nil {
			return err
		}
		return replace(filepath.Join(out, "purser-contracts.tar.gz"), b)
	}
	return writeFolder(filepath.Join(out, "contracts"), files)
}

// replace writes a file so that a reader sees the former one or the whole of the new one.
func replace(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
