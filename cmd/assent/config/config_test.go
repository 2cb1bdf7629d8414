package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whatever a file says, it is read or refused with a place, and what is printed of it
// means the same.
func FuzzLoad(f *testing.F) {
	f.Add("domain: orders\n")
	f.Add("domain: &a orders\nlog: {path: *a}\nparticipants: {b: {kind: stream, lists: true}}\n")
	f.Add("participants:\n  a: {kind: http, url: 'http://[::1]:1/x', allow: [::1/128]}\n")
	f.Add("domain: a\n---\n")
	f.Add("limits: &x {open: *x}\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "assent.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		loaded, err := Load(Sources{Path: path})
		if err != nil {
			var problems Problems
			require.ErrorAs(t, err, &problems)
			for _, p := range problems {
				require.Contains(t, p.Where, path)
				require.NotEmpty(t, p.What)
			}
			return
		}
		printed, err := yaml.Marshal(loaded.YAML(true))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, printed, 0o600))
		again, err := Load(Sources{Path: path})
		require.NoError(t, err, "%s", printed)
		require.Equal(t, loaded.Config, again.Config, "%s", printed)
	})
}

func TestNearestWord(t *testing.T) {
	for word, near := range map[string]string{"lissten": "listen", "kidn": "kind", "x": "", "participants": "", "doman": "domain"} {
		require.Equal(t, near, nearest(word, []string{"listen", "kind", "domain"}), word)
	}
}
