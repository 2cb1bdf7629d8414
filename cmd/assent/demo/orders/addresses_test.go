package orders

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddressesAreShownWithoutPasswords(t *testing.T) {
	a := Addresses{
		Postgres: "postgres://me:secret@db.example:5433/shop?sslmode=disable",
		MySQL:    "me:secret@tcp(db.example:3307)/shop?timeout=5s",
		NATS:     "nats://me:secret@mq.example:4222",
	}
	require.NoError(t, a.Check())
	require.Equal(t, "postgres://me:xxxxx@db.example:5433/shop?sslmode=disable", a.shown(postgresName))
	require.Equal(t, "me:xxxxx@tcp(db.example:3307)/shop?timeout=5s", a.shown(mariadbName))
	require.Equal(t, "nats://me:xxxxx@mq.example:4222", a.shown(natsName))
	for name, a := range map[string]Addresses{
		"no port":           {Postgres: "postgres://me:secret@db.example:port/shop"},
		"no URL":            {Postgres: "postgres://me:secret@db example/shop"},
		"no number":         {Postgres: "host=db.example password=secret port=many"},
		"unknown sslmode":   {Postgres: "postgres://me:secret@db.example/shop?sslmode=perhaps"},
		"no slash":          {MySQL: "me:secret@tcp(db.example)"},
		"no closing":        {MySQL: "me:secret@tcp(db.example/shop"},
		"no database":       {MySQL: "me:secret@tcp(db.example)/"},
		"a URL":             {MySQL: "mysql://me:secret@db.example/shop"},
		"nats without host": {NATS: "me:secret@mq.example"},
		"nats port":         {NATS: "nats://me:secret@mq.example:port"},
	} {
		t.Run(name, func(t *testing.T) {
			err := a.Check()
			require.Error(t, err)
			require.Regexp(t, "^--(postgres|mysql|nats): ", err.Error())
			require.NotContains(t, err.Error(), "secret")
			for _, participant := range participantNames {
				require.NotContains(t, a.shown(participant), "secret", participant)
			}
		})
	}
	// A keyword string of libpq is no URL, and is not shown at all.
	require.Equal(t, unreadable, (&Addresses{Postgres: "host=db.example password=secret"}).shown(postgresName))
}
