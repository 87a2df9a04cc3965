package main

import (
	"archive/tar"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	predicateType = "https://slsa.dev/provenance/v1"
	// buildType says how the parameters are read: VERSION is that of the make targets images, sbom and provenance.
	buildType   = "https://github.com/purserhq/purser/blob/main/docs/deploy.md#a-signed-release"
	imageSuffix = ".oci.tar"
)

// build is what a release was made of, by whom, and the paths of the programs.
type build struct {
	source, revision, version, builder string
	programs                           []string
}

// subjectsOf returns the SHA-256, in hex, of each file of a folder but the provenance, and of the image in each file
// NAME.oci.tar, as purser/NAME.
func subjectsOf(folder string) (map[string]string, error) {
	names, err := files(folder)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, name := range names {
		if name == provenanceFile {
			continue
		}
		path := filepath.Join(folder, name)
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		found[name] = hex.EncodeToString(sum[:])
		if service, is := strings.CutSuffix(name, imageSuffix); is {
			if found["purser/"+service], err = imageDigest(path); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return found, nil
}

// imageDigest returns the digest of the one image in an OCI archive.
func imageDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return "", errors.New("it has no index.json, so it is no OCI archive")
		}
		if err != nil {
			return "", err
		}
		if h.Name != "index.json" {
			continue
		}
		var index struct{ Manifests []struct{ Digest string } }
		if err := json.NewDecoder(r).Decode(&index); err != nil {
			return "", err
		}
		if len(index.Manifests) != 1 {
			return "", fmt.Errorf("it has %d images, want one", len(index.Manifests))
		}
		digest, ok := strings.CutPrefix(index.Manifests[0].Digest, "sha256:")
		if !ok {
			return "", fmt.Errorf("the digest %q is not of SHA-256", index.Manifests[0].Digest)
		}
		return digest, nil
	}
}

// materials returns what a build was made of: the sources, the Go toolchain, and each module with its checksum.
func (b build) materials() ([]*intoto.ResourceDescriptor, error) {
	modules := map[string]*intoto.ResourceDescriptor{}
	for _, program := range b.programs {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			return nil, err
		}
		modules["go"] = &intoto.ResourceDescriptor{Uri: "pkg:golang/toolchain@" + info.GoVersion}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			if m.Sum == "" {
				continue // a module of this repository, which the revision is of
			}
			sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
			if err != nil {
				return nil, fmt.Errorf("%s has the checksum %q: %w", m.Path, m.Sum, err)
			}
			modules[m.Path+"@"+m.Version] = &intoto.ResourceDescriptor{Uri: "pkg:golang/" + m.Path + "@" + m.Version,
				Digest: map[string]string{"dirHash": hex.EncodeToString(sum)}}
		}
	}
	found := []*intoto.ResourceDescriptor{{Uri: "git+" + b.source, Digest: map[string]string{"gitCommit": b.revision}}}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		found = append(found, modules[name])
	}
	return found, nil
}

// writeProvenance writes an in-toto statement with SLSA's provenance about the files of a folder.
func writeProvenance(folder string, b build) error {
	subjects, err := subjectsOf(folder)
	if err != nil {
		return err
	}
	materials, err := b.materials()
	if err != nil {
		return err
	}
	parameters, err := structpb.NewStruct(map[string]any{"source": b.source, "version": b.version})
	if err != nil {
		return err
	}
	predicate := &provenance.Provenance{
		BuildDefinition: &provenance.BuildDefinition{BuildType: buildType, ExternalParameters: parameters,
			ResolvedDependencies: materials},
		RunDetails: &provenance.RunDetails{Builder: &provenance.Builder{Id: b.builder}},
	}
	if err := predicate.Validate(); err != nil {
		return err
	}
	asJSON, err := protojson.Marshal(predicate)
	if err != nil {
		return err
	}
	statement := &intoto.Statement{Type: intoto.StatementTypeUri, PredicateType: predicateType,
		Predicate: &structpb.Struct{}}
	if err := protojson.Unmarshal(asJSON, statement.Predicate); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(subjects)) {
		statement.Subject = append(statement.Subject, &intoto.ResourceDescriptor{Name: name,
			Digest: map[string]string{"sha256": subjects[name]}})
	}
	if err := statement.Validate(); err != nil {
		return err
	}
	text, err := protojson.MarshalOptions{Multiline: true}.Marshal(statement)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, provenanceFile), text, 0o644)
}
