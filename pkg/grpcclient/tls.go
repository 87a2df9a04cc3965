package grpcclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/purserhq/purser/pkg/tlsfiles"
)

// checkTLS returns all that is wrong with the settings of TLS and their files.
func (c Config) checkTLS(prefix string) error {
	var invalid []error
	if c.Plaintext {
		for _, set := range []struct{ name, value string }{{"TLS_CA", c.CAFile}, {"TLS_CERT", c.TLSCert},
			{"TLS_KEY", c.TLSKey}, {"TLS_SERVER_ID", c.TLSServerID}} {
			if set.value != "" {
				invalid = append(invalid,
					fmt.Errorf("%sPLAINTEXT and %[1]s%s are both set; choose one", prefix, set.name))
			}
		}
		return errors.Join(invalid...)
	}
	silent := slog.New(slog.DiscardHandler)
	if c.CAFile != "" {
		if _, err := tlsfiles.LoadRoots(c.CAFile, silent); err != nil {
			invalid = append(invalid, fmt.Errorf("%sTLS_CA: %w", prefix, err))
		}
	}
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		invalid = append(invalid, fmt.Errorf("%sTLS_CERT and %[1]sTLS_KEY must be set together", prefix))
	case c.TLSCert != "":
		if _, err := tlsfiles.LoadPair(c.TLSCert, c.TLSKey, silent); err != nil {
			invalid = append(invalid, fmt.Errorf("%sTLS_CERT, %[1]sTLS_KEY: %w", prefix, err))
		}
	}
	if err := c.checkServerID(); err != nil {
		invalid = append(invalid, fmt.Errorf("%sTLS_SERVER_ID: %w", prefix, err))
	}
	return errors.Join(invalid...)
}

func (c Config) checkServerID() error {
	if c.TLSServerID == "" {
		return nil
	}
	if c.CAFile == "" {
		return errors.New("needs TLS_CA: the system's authorities vouch for names, not for SPIFFE ids")
	}
	return tlsfiles.CheckID(c.TLSServerID)
}

func transport(c Config) (credentials.TransportCredentials, error) {
	if c.Plaintext {
		return insecure.NewCredentials(), nil
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, errors.New("TLS: a certificate and its key must be set together")
	}
	if err := c.checkServerID(); err != nil {
		return nil, fmt.Errorf("TLS server id: %w", err)
	}
	client, err := tlsfiles.LoadClient(c.CAFile, c.TLSCert, c.TLSKey, c.TLSServerID, cmp.Or(c.Log, slog.Default()))
	if err != nil {
		return nil, fmt.Errorf("TLS %w", err)
	}
	return &current{TransportCredentials: credentials.NewTLS(client.Config()), client: client}, nil
}

// current is gRPC's TLS with what the files have at each handshake.
type current struct {
	credentials.TransportCredentials
	client tlsfiles.Client
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *current) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn,
	credentials.AuthInfo, error) {
	conn, info, err := credentials.NewTLS(c.client.Config()).ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return &clientCertConn{Conn: conn, client: c.client}, info, nil
}

// Clone implements credentials.TransportCredentials.
func (c *current) Clone() credentials.TransportCredentials {
	return &current{TransportCredentials: c.TransportCredentials.Clone(), client: c.client}
}

// clientCertConn is a connection whose first error says that the server has refused the client's
// certificate, if it has: in TLS 1.3 that comes after the client's part of the handshake, as
// an alert such as "bad certificate", which reads as if the server's were meant.
type clientCertConn struct {
	net.Conn
	client tlsfiles.Client
}

// Read implements net.Conn.
func (c *clientCertConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	var alert *net.OpError
	if err != nil && errors.As(err, &alert) && alert.Op == "remote error" &&
		strings.Contains(alert.Err.Error(), "certificate") {
		return n, fmt.Errorf("the server refused %s, its log has the reason: %w", c.client.Shown(), err)
	}
	return n, err
}
