package remote

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// Calls are signed as Standard Webhooks 1.0.0 has it (standardwebhooks.com, "Signature
// scheme"): an HMAC-SHA256 over id, timestamp and body. The id is the same for every
// attempt of a call; the timestamp is the attempt's.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"

	signatureVersion = "v1,"
)

const (
	// DefaultTolerance is HandlerConfig.Tolerance if it is zero.
	DefaultTolerance = 5 * time.Minute

	maxCallID = 128
	// maxSignatures bounds how many signatures of a call are looked at (R12).
	maxSignatures = 16
)

// callID names a call about a branch for all its attempts: the XID with its colons made
// '_', since a dot would be mistaken for the scheme's separator, and the phase. The
// phase is in it because it is signed: bodies of different calls may be equal.
func callID(ref *assentv1.BranchRef, phase string) string {
	return strings.ReplaceAll(xidOf(ref), ":", "_") + "-" + phase
}

// ofPhase reports whether a call id is that of a call of this phase.
func ofPhase(id, phase string) bool { return strings.HasSuffix(id, "-"+phase) }

// sign adds what shows that whoever has one of the secrets made this call.
func sign(header http.Header, secrets []Secret, id string, at time.Time, body []byte) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	var signatures []byte
	for i, s := range secrets {
		if i > 0 {
			signatures = append(signatures, ' ')
		}
		signatures = append(signatures, signatureVersion...)
		signatures = base64.StdEncoding.AppendEncode(signatures, mac(s, id, timestamp, body))
	}
	header[headerID], header[headerTimestamp], header[headerSignature] = []string{id}, []string{timestamp}, []string{string(signatures)}
}

func mac(s Secret, id, timestamp string, body []byte) []byte {
	h := hmac.New(sha256.New, []byte(s.key))
	h.Write([]byte(id + "." + timestamp + "."))
	h.Write(body)
	return h.Sum(nil)
}

// verify returns the call's id if it is signed with one of the secrets, and not longer
// ago or later than tolerance.
func verify(header http.Header, secrets []Secret, body []byte, now time.Time, tolerance time.Duration) (id string, err error) {
	id, err = only(header, headerID)
	if err != nil {
		return "", err
	}
	if len(id) > maxCallID || strings.Contains(id, ".") {
		return "", fmt.Errorf("%s has a dot or is longer than %d bytes", strings.ToLower(headerID), maxCallID)
	}
	timestamp, err := only(header, headerTimestamp)
	if err != nil {
		return "", err
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != timestamp {
		return "", fmt.Errorf("%s is not a number of seconds since 1970", strings.ToLower(headerTimestamp))
	}
	given, err := only(header, headerSignature)
	if err != nil {
		return "", err
	}
	if !signed(given, secrets, id, timestamp, body) {
		return "", errors.New("the signature is by none of the secrets: give both sides the same one")
	}
	// Looked at last: only who knows the secret learns of this side's clock.
	if off := now.Sub(time.Unix(seconds, 0)); off > tolerance || off < -tolerance {
		return "", fmt.Errorf("the signature was made %s before this service's time, limit %s either way: set the clocks", off.Round(time.Second), tolerance)
	}
	return id, nil
}

// only returns the header's only value: of two, each side could take another one.
func only(header http.Header, name string) (string, error) {
	values := header[name]
	if len(values) != 1 || values[0] == "" {
		return "", fmt.Errorf("the call is not signed: it has not exactly one %s", strings.ToLower(name))
	}
	return values[0], nil
}

func signed(given string, secrets []Secret, id, timestamp string, body []byte) bool {
	signatures := strings.SplitN(given, " ", maxSignatures+1)
	signatures = signatures[:min(len(signatures), maxSignatures)]
	for _, s := range secrets {
		want := mac(s, id, timestamp, body)
		for _, signature := range signatures {
			encoded, known := strings.CutPrefix(signature, signatureVersion)
			got, err := base64.StdEncoding.DecodeString(encoded)
			if known && err == nil && hmac.Equal(got, want) {
				return true
			}
		}
	}
	return false
}
