package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// password is that of the private key.
func password(bool) ([]byte, error) {
	p, ok := os.LookupEnv("COSIGN_PASSWORD")
	if !ok {
		return nil, errors.New("COSIGN_PASSWORD is not set: it is the password of the private key, and may be empty")
	}
	return []byte(p), nil
}

// generateKey writes a key pair, and refuses to replace one.
func generateKey(path string) error {
	secret, public, err := cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), password)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path    string
		content []byte
		mode    os.FileMode
	}{{path, secret, 0o600}, {path + ".pub", public, 0o644}} {
		file, err := os.OpenFile(f.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, f.mode)
		if err != nil {
			return err
		}
		_, err = file.Write(f.content)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// keypair signs with a key in a file.
type keypair struct{ private *ecdsa.PrivateKey }

func loadKey(path string) (keypair, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return keypair{}, err
	}
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(b, password)
	if err != nil {
		return keypair{}, fmt.Errorf("%s: %w", path, err)
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return keypair{}, fmt.Errorf("%s: the key is a %T, and has to be ECDSA on P-256, as cosign makes it", path,
			key)
	}
	return keypair{private}, nil
}

func (k keypair) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

func (k keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}

// GetHint is the digest of the public key, which the signatures carry.
func (k keypair) GetHint() []byte {
	der, err := cryptoutils.MarshalPublicKeyToDER(k.private.Public())
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(der)
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}

func (k keypair) GetKeyAlgorithm() string { return "ECDSA" }

func (k keypair) GetPublicKey() crypto.PublicKey { return k.private.Public() }

func (k keypair) GetPublicKeyPem() (string, error) {
	b, err := cryptoutils.MarshalPublicKeyToPEM(k.private.Public())
	return string(b), err
}

func (k keypair) SignData(_ context.Context, data []byte) (signature, digest []byte, err error) {
	sum := sha256.Sum256(data)
	signature, err = ecdsa.SignASN1(rand.Reader, k.private, sum[:])
	return signature, sum[:], err
}
