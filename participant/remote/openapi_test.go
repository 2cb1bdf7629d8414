package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

// contract is openapi.yaml.
type contract struct {
	t        *testing.T
	document map[string]any
	compiler *jsonschema.Compiler
}

func readContract(t *testing.T) *contract {
	t.Helper()
	text, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	var read any
	require.NoError(t, yaml.Unmarshal(text, &read))
	// Through JSON, so that its values are those of bodies.
	asJSON, err := json.Marshal(read)
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	require.NoError(t, err)
	c := &contract{t, document.(map[string]any), jsonschema.NewCompiler()}
	c.compiler.AssertFormat()
	c.compiler.AssertContent()
	require.NoError(t, c.compiler.AddResource("openapi.yaml", document))
	return c
}

// at returns what is at a place, which is a list of keys; references are followed.
func (c *contract) at(place ...string) any {
	c.t.Helper()
	var at any = c.document
	for _, key := range place {
		object, ok := at.(map[string]any)
		require.True(c.t, ok, "%v", place)
		at, ok = object[key]
		require.True(c.t, ok, "%v: no %s", place, key)
		if list, ok := at.([]any); ok && key == "parameters" {
			byName := map[string]any{}
			for _, parameter := range list {
				resolved := c.resolved(parameter).(map[string]any)
				byName[resolved["name"].(string)] = resolved
			}
			at = byName
		}
		at = c.resolved(at)
	}
	return at
}

func (c *contract) resolved(at any) any {
	object, _ := at.(map[string]any)
	if ref, ok := object["$ref"].(string); ok && len(object) == 1 {
		return c.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	return at
}

// check validates a value against the schema at a place. Its references are found from
// the document's root, so the schema has to be named there or be no reference.
func (c *contract) check(value any, place ...string) {
	c.t.Helper()
	schema, _ := c.at(place[:len(place)-1]...).(map[string]any)
	ref, named := schema[place[len(place)-1]].(map[string]any)["$ref"].(string)
	if !named {
		escaped := make([]string, 0, len(place))
		for _, key := range place {
			escaped = append(escaped, strings.ReplaceAll(key, "/", "~1"))
		}
		ref = "#/" + strings.Join(escaped, "/")
	}
	compiled, err := c.compiler.Compile("openapi.yaml" + ref)
	require.NoError(c.t, err)
	require.NoError(c.t, compiled.Validate(value), "%v: %v", place, value)
}

// enum returns the values that a field may have.
func (c *contract) enum(schema, field string) (values []string) {
	for _, v := range c.at("components", "schemas", schema, "properties", field, "enum").([]any) {
		values = append(values, v.(string))
	}
	return values
}

// exchange is a call and what was answered.
type exchange struct {
	path         string
	header       http.Header
	call, answer []byte
	status       int
}

// overhearing passes calls on and keeps them.
type overhearing struct {
	http.Handler
	mu    sync.Mutex
	heard []exchange
}

func (o *overhearing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	recorder := httptest.NewRecorder()
	o.Handler.ServeHTTP(recorder, r)
	o.mu.Lock()
	o.heard = append(o.heard, exchange{path: r.URL.Path, header: r.Header.Clone(), call: body, answer: recorder.Body.Bytes(), status: recorder.Code})
	o.mu.Unlock()
	maps.Copy(w.Header(), recorder.Header())
	w.WriteHeader(recorder.Code)
	_, _ = w.Write(recorder.Body.Bytes())
}

// answering answers every call the same.
type answering struct {
	vote    participant.Vote
	err     error
	listing participant.Listing
	shown   []participant.Explanation
	calls   int
	last    participant.Branch
}

func (a *answering) Name() string { return serviceName }

func (a *answering) Prepare(_ context.Context, b participant.Branch) (participant.Vote, error) {
	a.calls++
	a.last = b
	return a.vote, a.err
}

func (a *answering) Commit(_ context.Context, b participant.Branch) error {
	a.calls++
	a.last = b
	return a.err
}

func (a *answering) Rollback(ctx context.Context, b participant.Branch) error {
	return a.Commit(ctx, b)
}

func (a *answering) List(context.Context, string) (participant.Listing, error) {
	return a.listing, a.err
}

func (a *answering) Forget(_ context.Context, branches []participant.Branch) error {
	a.calls += len(branches)
	return a.err
}

func (a *answering) Explain(context.Context) ([]participant.Explanation, error) {
	return a.shown, a.err
}

func aBranch() participant.Branch {
	return participant.Branch{
		Domain: "orders", Tx: participant.TxID{Term: participant.NewTerm(3, 0xfeed), UUID: uuid.Must(uuid.NewV7())}, Epoch: 7, Number: 12,
		Participant: serviceName, Deadline: time.Now().Add(time.Minute), Data: []byte("order 5: <1> & \u2028 \x00"),
	}
}

// everything makes every call, in every form, and has it answered in every way.
func everything(t *testing.T, p remote.Participant, a *answering) {
	text, binary, bare := aBranch(), aBranch(), participant.Branch{Domain: "d", Tx: aBranch().Tx}
	binary.Data = []byte{0xff, 0, 1}
	longest := aBranch()
	longest.Data = bytes.Repeat([]byte{1}, participant.MaxData)
	ctx := remote.WithTraceparent(t.Context(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	errs := []error{nil, errors.New("the disk is full"), participant.ErrConfig, participant.ErrUnknownBranch, participant.ErrStaleEpoch}
	for o := participant.OutcomeCommitted; o.Valid(); o++ {
		errs = append(errs, &participant.HeuristicError{Outcome: o, Err: errors.New("by hand")})
	}
	a.listing = participant.Listing{Prepared: []participant.Branch{{Domain: "orders", Tx: text.Tx, Number: 63}}, Highest: []participant.TxID{text.Tx}}
	a.shown = []participant.Explanation{
		{Name: "'" + string(text.XID()) + "',1", Branch: participant.Branch{Domain: "orders", Tx: text.Tx, Number: 63}, Commit: "COMMIT;\nSELECT;", Rollback: "ROLLBACK;"},
		{Name: "another's", Commit: "COMMIT;", Rollback: "ROLLBACK;"},
	}
	for _, a.err = range errs {
		for _, a.vote = range []participant.Vote{0, participant.VotePrepared, participant.VoteReadOnly, participant.VoteRefused} {
			for _, b := range []participant.Branch{text, binary, bare, longest} {
				_, _ = p.Prepare(ctx, b)
			}
		}
		for _, b := range []participant.Branch{text, binary, bare, longest} {
			_, _ = p.Commit(ctx, b), p.Rollback(t.Context(), b)
		}
		_, _ = p.(participant.Lister).List(ctx, "orders")
		shown, err := p.(participant.Explainer).Explain(ctx)
		if a.err == nil {
			require.NoError(t, err)
			require.Equal(t, a.shown, shown)
		} else {
			require.Error(t, err)
		}
		_ = p.(participant.Forgetter).Forget(ctx, slices.Repeat([]participant.Branch{text}, 300))
	}
}

// What is sent either way is what the document says, and the document says nothing that
// is never sent.
func TestOpenAPIIsWhatIsSent(t *testing.T) {
	c, a := readContract(t), &answering{}
	h, err := remote.Handler(a, remote.HandlerConfig{Secrets: secrets()})
	require.NoError(t, err)
	o := &overhearing{Handler: h}
	p, err := remote.NewHTTP(remote.HTTPConfig{Name: serviceName, URL: serveHandler(t, o), Secrets: secrets(), Lists: true, Forgets: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	everything(t, p, a)

	paths, votes, states := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, e := range o.heard {
		paths[e.path] = true
		call, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.call))
		require.NoError(t, err)
		c.check(call, "paths", e.path, "post", "requestBody", "content", "application/json", "schema")
		c.checkHeaders(e)
		answer, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.answer))
		require.NoError(t, err)
		status := strconv.Itoa(e.status)
		if _, named := c.at("paths", e.path, "post", "responses").(map[string]any)[status]; !named {
			status = "default"
		}
		require.NotEqual(t, http.StatusBadRequest, e.status, "%s", e.answer)
		c.check(answer, "paths", e.path, "post", "responses", status, "content", "application/json", "schema")
		if fields := answer.(map[string]any); e.status == http.StatusOK {
			vote, _ := fields["vote"].(string)
			state, _ := fields["state"].(string)
			votes[vote], states[state] = true, true
		}
	}
	delete(votes, "")
	delete(states, "")
	require.ElementsMatch(t, slices.Collect(maps.Keys(c.at("paths").(map[string]any))), slices.Collect(maps.Keys(paths)))
	require.Len(t, paths, 6)
	require.ElementsMatch(t, c.enum("VoteAnswer", "vote"), slices.Collect(maps.Keys(votes)))
	require.ElementsMatch(t, c.enum("StateAnswer", "state"), slices.Collect(maps.Keys(states)))
}

func (c *contract) checkHeaders(e exchange) {
	c.t.Helper()
	parameters := c.at("paths", e.path, "post", "parameters").(map[string]any)
	for name, parameter := range parameters {
		values := e.header.Values(name)
		if name == "traceparent" && len(values) == 0 {
			continue
		}
		require.Len(c.t, values, 1, name)
		schema := parameter.(map[string]any)["schema"]
		compiler := jsonschema.NewCompiler()
		require.NoError(c.t, compiler.AddResource("header.json", schema))
		compiled, err := compiler.Compile("header.json")
		require.NoError(c.t, err)
		require.NoError(c.t, compiled.Validate(values[0]), name)
	}
	require.Equal(c.t, []string{"application/json"}, e.header["Content-Type"])
}

// Every vote and state of the document is understood, and no other one.
func TestOpenAPIAnswersAreUnderstood(t *testing.T) {
	c := readContract(t)
	var answer string
	p, err := remote.NewHTTP(remote.HTTPConfig{Name: serviceName, URL: serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = io.WriteString(w, answer)
	}))})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	for _, vote := range c.enum("VoteAnswer", "vote") {
		answer = `{"vote":"` + vote + `"}`
		got, _ := p.Prepare(t.Context(), aBranch())
		require.Equal(t, vote, strings.ToUpper(strings.ReplaceAll(got.String(), "-", "_")))
	}
	for _, state := range c.enum("StateAnswer", "state") {
		answer = `{"state":"` + state + `"}`
		require.NotContains(t, answerText(p.Commit(t.Context(), aBranch())), "none of the contract's")
		require.NotContains(t, answerText(p.Rollback(t.Context(), aBranch())), "none of the contract's")
	}
	for _, other := range []string{"UNSPECIFIED", "prepared", "", "OK", "VOTE_PREPARED"} {
		answer = `{"vote":"` + other + `","state":"` + other + `"}`
		vote, err := p.Prepare(t.Context(), aBranch())
		require.False(t, vote.Valid())
		require.ErrorContains(t, err, "none of the contract's")
		require.ErrorContains(t, p.Commit(t.Context(), aBranch()), "none of the contract's")
	}
}

func answerText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A call that lacks what the document requires, or has it of another type, is refused; one
// with more is taken.
func TestOpenAPICallsAreTakenAsDescribed(t *testing.T) {
	c, a := readContract(t), &answering{vote: participant.VotePrepared}
	h, err := remote.Handler(a, remote.HandlerConfig{Unsigned: true})
	require.NoError(t, err)
	o := &overhearing{Handler: h}
	p, err := remote.NewHTTP(remote.HTTPConfig{Name: serviceName, URL: serveHandler(t, o), Lists: true, Forgets: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	everything(t, p, a)
	a.err, a.vote = nil, participant.VotePrepared
	status := func(path string, body map[string]any) int {
		encoded, err := json.Marshal(body)
		require.NoError(t, err)
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(encoded))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	seen := map[string]bool{}
	for _, e := range o.heard {
		if seen[e.path] {
			continue
		}
		seen[e.path] = true
		schema := c.at("paths", e.path, "post", "requestBody", "content", "application/json", "schema").(map[string]any)
		if all, ok := schema["allOf"].([]any); ok {
			schema = c.resolved(all[0]).(map[string]any)
		}
		var good map[string]any
		require.NoError(t, json.Unmarshal(e.call, &good))
		good["added_later"] = map[string]any{"a": 1}
		require.Equal(t, http.StatusOK, status(e.path, good), e.path)
		for _, field := range schema["required"].([]any) {
			name := field.(string)
			for _, wrong := range []any{nil, map[string]any{}, true, "x y", -1.5} {
				if name == "participant" && e.path != "/prepare" && e.path != "/commit" && e.path != "/rollback" {
					continue // it is told, and of no consequence
				}
				bad := maps.Clone(good)
				bad[name] = wrong
				require.Equal(t, http.StatusBadRequest, status(e.path, bad), "%s with %s %v", e.path, name, wrong)
				delete(bad, name)
				require.Equal(t, http.StatusBadRequest, status(e.path, bad), "%s without %s", e.path, name)
			}
		}
	}
	require.Len(t, seen, 6)
}
