package remote

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// The bounds that Standard Webhooks 1.0.0 sets to a signing secret, in bytes.
const (
	minSecret = 24
	maxSecret = 64
	// maxSecrets bounds the signatures of a call (R12).
	maxSecrets = 8
)

const secretPrefix = "whsec_"

// Secret is a key that calls are signed with. It does not show when it is printed.
type Secret struct{ key string }

// ParseSecret reads a secret as Standard Webhooks write it: "whsec_" and the base64 of
// 24 to 64 random bytes. White space around it is left out, so that the content of a
// file can be given as it is. `echo whsec_$(openssl rand -base64 32)` makes one.
func ParseSecret(text string) (Secret, error) {
	encoded, prefixed := strings.CutPrefix(strings.TrimSpace(text), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	// The text itself is not shown: it may be nearly right.
	if !prefixed || err != nil || len(key) < minSecret || len(key) > maxSecret {
		return Secret{}, fmt.Errorf("the secret is not %q and the base64 of %d to %d bytes", secretPrefix, minSecret, maxSecret)
	}
	return Secret{string(key)}, nil
}

// String tells that there is a secret, and not which.
func (s Secret) String() string { return secretPrefix + "…" }

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// validSecrets returns nil if calls can be signed with these, or if there are none.
func validSecrets(secrets []Secret) error {
	if len(secrets) > maxSecrets {
		return fmt.Errorf("%d secrets, limit %d", len(secrets), maxSecrets)
	}
	for _, s := range secrets {
		if s.key == "" {
			return fmt.Errorf("one of the secrets is empty: make it with ParseSecret")
		}
	}
	return nil
}
