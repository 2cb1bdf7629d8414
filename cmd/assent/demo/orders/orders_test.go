package orders

import (
	"bytes"
	"context"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/cmd/assent/demo"
)

// A coordinator that ends by itself is no failed claim, but as much a reason to look:
// all is kept, and it is said where.
func TestWhatGoesWrongIsKept(t *testing.T) {
	site := theSite(t)
	var out bytes.Buffer
	err := Run(t.Context(), Options{
		Dir: t.TempDir(), Coordinator: []string{"/bin/sh", "-c", "echo the disk burns >&2; exit 3"},
		Addresses: site.addresses, Orders: MinOrders, Out: &out,
	})
	require.ErrorIs(t, err, demo.ErrNotProven)
	require.ErrorContains(t, err, "ended by itself: exit status 3")
	require.ErrorContains(t, err, "the disk burns")
	require.Contains(t, out.String(), "Everything is kept")
	name := regexp.MustCompile(`assent_demo_(\w+)_line`).FindStringSubmatch(out.String())
	require.NotNil(t, name, out.String())
	r := run(name[1])
	require.Regexp(t, `SELECT \* FROM pg_prepared_xacts WHERE gid LIKE '`+r.domain()+`:%';`, out.String())
	require.Regexp(t, `to remove it: DROP TABLE `+r.table("stock")+", "+r.table("line")+", "+r.table("witness")+";", out.String())
	require.Regexp(t, `nats stream rm `+r.stream(), out.String())

	crew, err := openCrew(t.Context(), &site.addresses, r, nil, false)
	require.NoError(t, err)
	databases, err := openDatabases(&site.addresses, r)
	require.NoError(t, err)
	for _, d := range databases {
		_, err := d.read(t.Context())
		require.NoError(t, err)
		require.NoError(t, d.drop(t.Context()))
		require.NoError(t, d.db.Close())
	}
	require.NoError(t, (&outbox{crew.js, r}).drop(context.Background()))
	require.NoError(t, crew.close())
}
