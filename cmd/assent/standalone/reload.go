package standalone

import (
	"strings"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/cmd/assent/config"
)

// reload takes up what can be changed while the server runs, which is the level of its
// log, and says what needs a restart. Tokens and certificates are read again by
// themselves when their files change.
func (s *site) reload(read func() (*config.Loaded, error)) {
	if read == nil {
		return
	}
	changed, err := read()
	if err != nil {
		s.logger.Error("configuration can't be read again: what it said before stays in force", zap.Error(err))
		return
	}
	s.level.SetLevel(levelOf(changed.Logging.Level))
	if needs := s.needsRestart(changed); len(needs) > 0 {
		s.logger.Warn("configuration read again: these changes need a restart", zap.Strings("keys", needs))
		return
	}
	s.logger.Info("configuration read again", zap.String("logging.level", changed.Logging.Level))
}

// needsRestart returns the keys whose values differ and are not taken up.
func (s *site) needsRestart(changed *config.Loaded) (keys []string) {
	before := map[string]string{}
	for _, v := range s.config.Values() {
		before[v.Key] = v.Text
	}
	for _, v := range changed.Values() {
		if was, known := before[v.Key]; (!known || was != v.Text) && v.Key != "logging.level" {
			keys = append(keys, v.Key)
		}
		delete(before, v.Key)
	}
	for key := range before {
		keys = append(keys, strings.TrimSuffix(key, ".kind"))
	}
	return keys
}
