package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	signatureSuffix = ".sigstore.json"
	provenanceFile  = "provenance.intoto.json"
	statementType   = "application/vnd.in-toto+json"
)

// files are the names of what is signed in a folder.
func files(folder string) (found []string, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasSuffix(e.Name(), signatureSuffix) {
			found = append(found, e.Name())
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no files", folder)
	}
	return found, nil
}

// signFolder writes a Sigstore bundle beside each file: of the file itself, and for the provenance an attestation.
func signFolder(ctx context.Context, keyFile, folder string) error {
	key, err := loadKey(keyFile)
	if err != nil {
		return err
	}
	names, err := files(folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		var content sign.Content = &sign.PlainData{Data: b}
		if name == provenanceFile {
			content = &sign.DSSEData{Data: b, PayloadType: statementType}
		}
		signed, err := sign.Bundle(content, key, sign.BundleOptions{Context: ctx})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		text, err := protojson.Marshal(signed)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name+signatureSuffix), text, 0o644); err != nil {
			return err
		}
		fmt.Println("signed", name)
	}
	return nil
}

// verifyFolder checks that every file of a folder is signed with a key, and that the provenance is about it.
func verifyFolder(publicFile, folder string) error {
	pem, err := os.ReadFile(publicFile)
	if err != nil {
		return err
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(pem)
	if err != nil {
		return fmt.Errorf("%s: %w", publicFile, err)
	}
	verifier, err := newVerifier(public)
	if err != nil {
		return err
	}
	names, err := files(folder)
	if err != nil {
		return err
	}
	subjects, err := subjectsOf(folder)
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		if name != provenanceFile {
			b, err := os.ReadFile(filepath.Join(folder, name))
			if err == nil {
				err = check(verifier, folder, name, verify.WithArtifact(bytes.NewReader(b)))
			}
			failed = append(failed, err)
		}
	}
	failed = append(failed, sameStatement(folder))
	// The statement that is signed has to be about each file, and each image in one.
	for name, digest := range subjects {
		b, err := hex.DecodeString(digest)
		if err != nil {
			return err
		}
		if err := check(verifier, folder, provenanceFile, verify.WithArtifactDigest("sha256", b)); err != nil {
			failed = append(failed, fmt.Errorf("of %s: %w", name, err))
		}
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	fmt.Printf("%d files are signed, and %s is about %d files and images\n", len(names), provenanceFile, len(subjects))
	return nil
}

// sameStatement checks that the provenance is the statement in the bundle beside it.
func sameStatement(folder string) error {
	path := filepath.Join(folder, provenanceFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b, err := bundle.LoadJSONFromPath(path + signatureSuffix)
	if err != nil {
		return err
	}
	if !bytes.Equal(b.GetDsseEnvelope().GetPayload(), text) {
		return fmt.Errorf("%s is not what was signed", provenanceFile)
	}
	return nil
}

// newVerifier trusts one key, and needs no log of signatures and no time.
func newVerifier(public crypto.PublicKey) (*verify.Verifier, error) {
	v, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	key := root.NewExpiringKey(v, time.Time{}, time.Time{}) // at all times
	trusted := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return key, nil })
	return verify.NewVerifier(trusted, verify.WithNoObserverTimestamps())
}

// check verifies the signature beside a file, and that it is about an artifact.
func check(v *verify.Verifier, folder, name string, artifact verify.ArtifactPolicyOption) error {
	b, err := bundle.LoadJSONFromPath(filepath.Join(folder, name+signatureSuffix))
	if err != nil {
		return fmt.Errorf("%s: the signature can't be read: %w", name, err)
	}
	if _, err := v.Verify(b, verify.NewPolicy(artifact, verify.WithKey())); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
