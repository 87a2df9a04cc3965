package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// errorDetails are the files that no contract imports and that a caller needs to read an error: the status in the
// trailer grpc-status-details-bin, and the messages in it.
func errorDetails() []string {
	return []string{"google/rpc/status.proto", "google/rpc/error_details.proto"}
}

// contracts are the compiled .proto files of a checkout and everything that they import.
type contracts struct {
	resolver protocompile.Resolver
	// all has each file after those that it imports.
	all []protoreflect.FileDescriptor
}

// file is one to publish; path has slashes and begins at the folder of the contracts.
type file struct {
	path string
	text []byte
}

func compile(ctx context.Context, root string) (*contracts, error) {
	ours := filepath.Join(root, "proto")
	names := errorDetails()
	err := filepath.WalkDir(filepath.Join(ours, "purser"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".proto" {
			return err
		}
		rel, err := filepath.Rel(ours, path)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find the contracts: %w", err)
	}
	slices.Sort(names)
	c := &contracts{resolver: &protocompile.SourceResolver{
		ImportPaths: []string{ours, filepath.Join(root, "third_party")},
	}}
	compiler := protocompile.Compiler{Resolver: c.resolver, SourceInfoMode: protocompile.SourceInfoStandard}
	files, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("compile the contracts: %w", err)
	}
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		c.all = append(c.all, f)
	}
	for _, f := range files {
		add(f)
	}
	return c, nil
}

// set is the FileDescriptorSet of all files, with their comments.
func (c *contracts) set() ([]byte, error) {
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range c.all {
		set.File = append(set.File, protoutil.ProtoFromFileDescriptor(f))
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode the descriptor set: %w", err)
	}
	return b, nil
}

// files are the .proto files as they were written, and the licences, by path.
func (c *contracts) files(root string) ([]file, error) {
	var found []file
	licences := map[string]bool{}
	for _, f := range c.all {
		text, err := c.source(f.Path())
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f.Path(), err)
		}
		found = append(found, file{f.Path(), text})
		licences[licenceOf(f.Path())] = true
	}
	for licence := range licences {
		from := filepath.Join(root, "third_party", filepath.FromSlash(licence))
		if licence == "LICENSE" {
			from = filepath.Join(root, licence)
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return nil, fmt.Errorf("the licence of the files: %w", err)
		}
		found = append(found, file{licence, text})
	}
	slices.SortFunc(found, func(a, b file) int { return cmp.Compare(a.path, b.path) })
	return found, nil
}

// licenceOf is where the licence of a file is published: our own at the top, that of others beside their files.
func licenceOf(path string) string {
	if strings.HasPrefix(path, "purser/") {
		return "LICENSE"
	}
	return path[:strings.LastIndexByte(path, '/')] + "/LICENSE"
}

func (c *contracts) source(path string) ([]byte, error) {
	found, err := c.resolver.FindFileByPath(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(found.Source)
	if closer, ok := found.Source.(io.Closer); ok {
		_ = closer.Close()
	}
	return b, err
}
