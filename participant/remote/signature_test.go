package remote

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

const (
	vectorSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret  = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	vectorID     = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorBody   = `{"test": 2432232314}`
)

func parsed(t testing.TB, text string) Secret {
	t.Helper()
	s, err := ParseSecret(text)
	require.NoError(t, err)
	return s
}

// The vector is the one that the libraries of Standard Webhooks are tested with.
func TestSignaturesAreThoseOfStandardWebhooks(t *testing.T) {
	header, at := http.Header{}, time.Unix(1614265330, 0)
	sign(header, []Secret{parsed(t, vectorSecret)}, vectorID, at, []byte(vectorBody))
	require.Equal(t, http.Header{
		"Webhook-Id":        {vectorID},
		"Webhook-Timestamp": {"1614265330"},
		"Webhook-Signature": {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	}, header)
	id, err := verify(header, []Secret{parsed(t, vectorSecret)}, []byte(vectorBody), at, DefaultTolerance)
	require.NoError(t, err)
	require.Equal(t, vectorID, id)
}

func TestACallIsTakenOnlyAsItWasSigned(t *testing.T) {
	now := time.Unix(1614265330, 0)
	const wrong = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
	good := func() http.Header {
		header := http.Header{}
		sign(header, []Secret{parsed(t, vectorSecret)}, vectorID, now, []byte(vectorBody))
		return header
	}
	right := good().Get(headerSignature)
	for name, c := range map[string]struct {
		change func(http.Header)
		body   string
		skew   time.Duration
		want   string // part of the error; empty for none
	}{
		"as it is":              {},
		"no id":                 {change: func(h http.Header) { h.Del(headerID) }, want: "webhook-id"},
		"no timestamp":          {change: func(h http.Header) { h.Del(headerTimestamp) }, want: "webhook-timestamp"},
		"no signature":          {change: func(h http.Header) { h.Del(headerSignature) }, want: "webhook-signature"},
		"two ids":               {change: func(h http.Header) { h.Add(headerID, vectorID) }, want: "exactly one"},
		"two signatures":        {change: func(h http.Header) { h.Add(headerSignature, right) }, want: "exactly one"},
		"another signature":     {change: func(h http.Header) { h.Set(headerSignature, wrong) }, want: "none of the secrets"},
		"another version":       {change: func(h http.Header) { h.Set(headerSignature, "v2"+right[2:]) }, want: "none of the secrets"},
		"no version":            {change: func(h http.Header) { h.Set(headerSignature, right[3:]) }, want: "none of the secrets"},
		"right among others":    {change: func(h http.Header) { h.Set(headerSignature, wrong+" v2,x v1a,y "+right+" "+wrong) }},
		"right after too many":  {change: func(h http.Header) { h.Set(headerSignature, strings.Repeat(wrong+" ", maxSignatures)+right) }, want: "none of the secrets"},
		"another id":            {change: func(h http.Header) { h.Set(headerID, vectorID+"x") }, want: "none of the secrets"},
		"an id with a dot":      {change: func(h http.Header) { h.Set(headerID, "a.1") }, want: "dot"},
		"a long id":             {change: func(h http.Header) { h.Set(headerID, strings.Repeat("a", maxCallID+1)) }, want: "longer"},
		"another timestamp":     {change: func(h http.Header) { h.Set(headerTimestamp, "1614265331") }, want: "none of the secrets"},
		"a timestamp with zero": {change: func(h http.Header) { h.Set(headerTimestamp, "01614265330") }, want: "seconds since 1970"},
		"a timestamp in words":  {change: func(h http.Header) { h.Set(headerTimestamp, "now") }, want: "seconds since 1970"},
		"another body":          {body: vectorBody + " ", want: "none of the secrets"},
		"just in time":          {skew: DefaultTolerance},
		"just early enough":     {skew: -DefaultTolerance},
		"too late":              {skew: DefaultTolerance + time.Second, want: "set the clocks"},
		"too early":             {skew: -DefaultTolerance - time.Second, want: "set the clocks"},
	} {
		t.Run(name, func(t *testing.T) {
			header, body := good(), vectorBody
			if c.change != nil {
				c.change(header)
			}
			if c.body != "" {
				body = c.body
			}
			_, err := verify(header, []Secret{parsed(t, otherSecret), parsed(t, vectorSecret)}, []byte(body), now.Add(c.skew), DefaultTolerance)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

// While a secret is being replaced both sides have two, and either side may have but one.
func TestSecretsAreReplacedWithoutAPause(t *testing.T) {
	older, newer := parsed(t, vectorSecret), parsed(t, otherSecret)
	both, now := []Secret{older, newer}, time.Now()
	for _, c := range []struct {
		signs, takes []Secret
		ok           bool
	}{
		{[]Secret{older}, both, true},
		{both, []Secret{older}, true},
		{both, []Secret{newer}, true},
		{[]Secret{newer}, both, true},
		{[]Secret{older}, []Secret{newer}, false},
		{nil, both, false},
	} {
		header := http.Header{}
		sign(header, c.signs, "id", now, nil)
		_, err := verify(header, c.takes, nil, now, DefaultTolerance)
		require.Equal(t, c.ok, err == nil, "%d sign, %d take: %v", len(c.signs), len(c.takes), err)
	}
}

// One branch's calls have one id for each phase, and no two branches have the same.
func TestCallIDsNameOneCallOfOneBranch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, other := branches().Draw(t, "branch"), branches().Draw(t, "other")
		id := callID(newBranchRef(b), phaseCommit)
		require.LessOrEqual(t, len(id), maxCallID)
		require.NotContains(t, id, ".")
		require.NotContains(t, id, ":")
		require.True(t, ofPhase(id, phaseCommit))
		require.False(t, ofPhase(id, phaseRollback))
		require.Equal(t, b.XID() == other.XID(), id == callID(newBranchRef(other), phaseCommit))
		require.Equal(t, string(b.XID()), xidOf(newBranchRef(b)))
		b.Epoch++
		require.Equal(t, id, callID(newBranchRef(b), phaseCommit), "a retry, also by another coordinator")
	})
	longest := participant.Branch{Domain: strings.Repeat("d", participant.MaxDomain), Tx: participant.TxID{Term: participant.NewTerm(1<<24-1, 1<<32-1)}, Number: 63}
	require.LessOrEqual(t, len(callID(newBranchRef(longest), phaseRollback)), maxCallID)
	require.LessOrEqual(t, len(onceID(longest.Domain, phasePrepared)), maxCallID)
	require.NotEqual(t, onceID("d", phasePrepared), onceID("d", phasePrepared))
	require.False(t, ofPhase(callID(&assentv1.BranchRef{}, phasePrepared), phasePrepare))
}

func TestSecretsAreReadAndNotShown(t *testing.T) {
	s := parsed(t, "\n"+vectorSecret+"\n")
	require.Equal(t, parsed(t, vectorSecret), s)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v %q", HTTPConfig{Secrets: []Secret{s}}, s, s)} {
		require.NotContains(t, text, s.key)
		require.NotContains(t, text, vectorSecret[len(secretPrefix):])
	}
	for _, text := range []string{
		"", "whsec_", vectorSecret[len(secretPrefix):], "whsec_AAAA", "whsec_" + strings.Repeat("A", 88), vectorSecret + "!", strings.ToUpper(vectorSecret),
	} {
		_, err := ParseSecret(text)
		require.Error(t, err, text)
		if text != "" && text != "whsec_" {
			require.NotContains(t, err.Error(), text)
		}
	}
	require.Error(t, validSecrets([]Secret{{}}))
	require.Error(t, validSecrets(make([]Secret, maxSecrets+1)))
}

func FuzzVerify(f *testing.F) {
	f.Add(vectorID, "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", []byte(vectorBody))
	f.Add("a", strconv.Itoa(1<<62), "v1, v1", []byte(nil))
	secret, at := parsed(f, vectorSecret), time.Unix(1614265330, 0)
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		header := http.Header{headerID: {id}, headerTimestamp: {timestamp}, headerSignature: {signature}}
		if _, err := verify(header, []Secret{secret}, body, at, DefaultTolerance); err != nil {
			return
		}
		// Whatever is taken holds the signature that these four have.
		want := http.Header{}
		seconds, err := strconv.ParseInt(timestamp, 10, 64)
		require.NoError(t, err)
		sign(want, []Secret{secret}, id, time.Unix(seconds, 0), body)
		require.Contains(t, strings.Split(signature, " "), want.Get(headerSignature))
	})
}
