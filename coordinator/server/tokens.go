package server

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/assent-tm/assent/participant"
)

// tokenPrefix lets people and scanners see what a token is of.
const tokenPrefix = "assent_"

// Credentials is a file that says who may call, in JSON. It holds no secrets: of each
// token only the SHA-256.
type Credentials struct {
	Tokens       []Token       `json:"tokens,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty"`
}

// Token lets its bearer in.
type Token struct {
	// Name is whose it is. Several tokens may have the same: one is replaced by the
	// other without a pause.
	Name string `json:"name"`
	Role Role   `json:"role"`
	// SHA256 is that of the whole token, in hexadecimal.
	SHA256 string `json:"sha256"`
	// Created is for people. From Expires on it is refused; zero: never.
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	// Participants are those the bearer may be an instance of.
	Participants []string `json:"participants,omitempty"`
}

// ID tells the token from others of the same name: the first digits of its SHA-256.
func (t Token) ID() string { return t.SHA256[:min(len(t.SHA256), 8)] }

// Certificate lets in who has a client certificate with this name that the listener's
// authorities have signed.
type Certificate struct {
	// SAN is one of the certificate's subject alternative names, "dns:HOST" or
	// "uri:URI". Common names do not count.
	SAN          string   `json:"san"`
	Name         string   `json:"name"`
	Role         Role     `json:"role"`
	Participants []string `json:"participants,omitempty"`
}

// NewToken makes a token of 256 random bits. The secret is for its bearer, and is kept
// nowhere; the Token is for the file.
func NewToken(name string, role Role, expires time.Time, participants ...string) (secret string, t Token, err error) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // it never fails
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(random[:])
	hash := sha256.Sum256([]byte(secret))
	t = Token{
		Name: name, Role: role, SHA256: hex.EncodeToString(hash[:]),
		Created: time.Now().UTC().Truncate(time.Second), Expires: expires, Participants: participants,
	}
	return secret, t, t.validate()
}

func (t *Token) validate() error {
	if err := validIdentity(t.Name, t.Role, t.Participants); err != nil {
		return err
	}
	if hash, err := hex.DecodeString(t.SHA256); err != nil || len(hash) != sha256.Size {
		return fmt.Errorf("%q: sha256 is not %d hexadecimal digits", t.Name, 2*sha256.Size)
	}
	return nil
}

func (c *Certificate) validate() error {
	if err := validIdentity(c.Name, c.Role, c.Participants); err != nil {
		return err
	}
	if kind, name, _ := strings.Cut(c.SAN, ":"); kind != "dns" && kind != "uri" || name == "" {
		return fmt.Errorf("%q: san %q is neither dns:HOST nor uri:URI", c.Name, c.SAN)
	}
	return nil
}

func validIdentity(name string, role Role, participants []string) error {
	if participant.ValidName(name) != nil {
		return fmt.Errorf("name %q is not 1 to %d characters of A-Z, a-z, 0-9, '.', '_' and '-'", name, participant.MaxName)
	}
	if _, err := role.MarshalText(); err != nil {
		return fmt.Errorf("%q has no role: give it one of client, viewer, operator and admin", name)
	}
	for _, p := range participants {
		if err := participant.ValidName(p); err != nil {
			return fmt.Errorf("%q: participants: %w", name, err)
		}
	}
	return nil
}

func (c *Credentials) validate() error {
	seen := map[string]bool{}
	for i := range c.Tokens {
		t := &c.Tokens[i]
		if err := t.validate(); err != nil {
			return fmt.Errorf("token %d: %w", i, err)
		}
		if seen[t.SHA256] {
			return fmt.Errorf("token %d: %q: sha256 is in the file twice", i, t.Name)
		}
		seen[t.SHA256] = true
	}
	for i := range c.Certificates {
		e := &c.Certificates[i]
		if err := e.validate(); err != nil {
			return fmt.Errorf("certificate %d: %w", i, err)
		}
		if seen[e.SAN] {
			return fmt.Errorf("certificate %d: san %q is in the file twice", i, e.SAN)
		}
		seen[e.SAN] = true
	}
	return nil
}

// ReadCredentials reads a file that WriteCredentials or a person wrote. A file that
// others than its owner may write is refused: who writes it decides transactions.
func ReadCredentials(path string) (*Credentials, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("read credentials: others than its owner may write %s: chmod go-w it", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	c, err := parseCredentials(text)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %s: %w", path, err)
	}
	return c, nil
}

func parseCredentials(text []byte) (*Credentials, error) {
	c := &Credentials{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // a misspelt "expires" must not mean never
	if err := d.Decode(c); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("there is more than one JSON value")
	}
	return c, c.validate()
}

// WriteCredentials replaces the file, or makes it: for its owner alone, and as a whole.
// It is durable when WriteCredentials returns. A server that uses it takes it up
// within a second or two.
func WriteCredentials(path string, c *Credentials) (err error) {
	if err := c.validate(); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	if err := replaceFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return nil
}

func replaceFile(path string, text []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // unless it has its new name
	_, err = temporary.Write(text)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Revoke takes out the token with this ID, and reports whether there was one.
func (c *Credentials) Revoke(id string) bool {
	before := len(c.Tokens)
	c.Tokens = slices.DeleteFunc(c.Tokens, func(t Token) bool { return t.ID() == id })
	return len(c.Tokens) < before
}
