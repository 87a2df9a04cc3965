// Command protodeps renders the .proto files that our contracts import and
// that are not ours, from the descriptors in their Go packages, so that buf
// needs no registry: the pinned Go module is the one source of their version.
//
// Usage: protodeps DIR
package main

import (
	"fmt"
	"os"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "protodeps:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: protodeps DIR")
	}
	files := []protoreflect.FileDescriptor{validate.File_buf_validate_validate_proto}
	printer := &protoprint.Printer{Compact: true}
	if err := printer.PrintProtosToFileSystem(files, args[0]); err != nil {
		return fmt.Errorf("render: %w", err)
	}
	return nil
}
