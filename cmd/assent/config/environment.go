package config

import "strings"

// Environment names the variable that sets a key or flag.
func Environment(key string) string {
	return "ASSENT_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}
