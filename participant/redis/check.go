package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/assent-tm/assent/participant"
)

// Check returns an error that Is participant.ErrConfig and names the setting if the
// server can't take part, or would lose a branch at a crash, unless Config.AllowDataLoss
// says that it may. What is dangerous but allowed goes to Config.Logger. On a cluster
// every master is asked.
func (p *Participant) Check(ctx context.Context) error {
	err := p.eachMaster(ctx, p.checkServer)
	if err == nil {
		err = p.probe(ctx)
	}
	if err != nil {
		return fmt.Errorf("check participant %q: %w", p.cfg.Name, err)
	}
	return nil
}

func (p *Participant) eachMaster(ctx context.Context, check func(context.Context, *goredis.Client) error) error {
	switch client := p.cfg.Client.(type) {
	case *goredis.Client:
		return check(ctx, client)
	case *goredis.ClusterClient:
		return p.misconfigured(client.ForEachMaster(ctx, check))
	default:
		return fmt.Errorf("%w: client is a %T", participant.ErrInvalidParticipant, client)
	}
}

func (p *Participant) checkServer(ctx context.Context, client *goredis.Client) error {
	info, err := client.InfoMap(ctx, "server", "replication", "persistence", "cluster").Result()
	if err != nil {
		return fmt.Errorf("ask for INFO: %w", p.misconfigured(err))
	}
	_, cluster := p.cfg.Client.(*goredis.ClusterClient)
	server := at(client)
	version := info["Server"]["redis_version"]
	switch {
	case !atLeast(version, 7):
		return fmt.Errorf("%w: %s is Redis %s: 7.0 or later is needed", participant.ErrConfig, server, version)
	case info["Replication"]["role"] != "master":
		return fmt.Errorf("%w: %s is a replica: connect to the master", participant.ErrConfig, server)
	case info["Cluster"]["cluster_enabled"] == "1" && !cluster:
		return fmt.Errorf("%w: %s belongs to a cluster: connect with redis.NewClusterClient", participant.ErrConfig, server)
	}
	if n := info["Replication"]["connected_slaves"]; n != "0" {
		p.warn(ctx, fmt.Sprintf("%s has %s replicas: replication is asynchronous, and a failover may lose prepared branches and commits", server, n))
	}
	if info["Persistence"]["aof_last_write_status"] == "err" {
		return fmt.Errorf("%w: %s can't write its append-only file: free space or mend the disk", participant.ErrConfig, server)
	}
	return p.checkDurability(ctx, client)
}

// durable are the settings without which the server loses what it acknowledged.
var durable = []struct{ setting, want, otherwise string }{
	{"appendonly", "yes", "a restart loses what is prepared and committed"},
	{"appendfsync", "always", "a power cut loses what is prepared and committed"},
	{"no-appendfsync-on-rewrite", "no", "a power cut while the append-only file is rewritten loses what is prepared and committed"},
	{"maxmemory-policy", "noeviction", "prepared branches are evicted when memory runs out"},
}

func (p *Participant) checkDurability(ctx context.Context, client *goredis.Client) error {
	for _, d := range durable {
		var err error
		values, failed := client.ConfigGet(ctx, d.setting).Result()
		switch is := values[d.setting]; {
		case ctx.Err() != nil || unreachable(failed):
			return fmt.Errorf("ask %s for its configuration: %w", at(client), failed)
		case failed != nil:
			err = fmt.Errorf("%w: %s does not tell its configuration: permit CONFIG GET %s, or set Config.AllowDataLoss: %w", participant.ErrConfig, at(client), d.setting, failed)
		case is != d.want:
			err = fmt.Errorf("%w: %s has %s %s: %s: set %s to %s, or set Config.AllowDataLoss", participant.ErrConfig, at(client), d.setting, is, d.otherwise, d.setting, d.want)
		}
		if err != nil && !p.cfg.AllowDataLoss {
			return err
		}
		if err != nil {
			p.warn(ctx, "allowed by Config.AllowDataLoss: "+err.Error())
		}
	}
	return nil
}

func (p *Participant) warn(ctx context.Context, warning string) {
	p.cfg.Logger.WarnContext(ctx, warning, "participant", p.cfg.Name)
}

// unreachable reports whether an error is not the server's own answer.
func unreachable(err error) bool {
	var answered goredis.Error
	return err != nil && !errors.As(err, &answered)
}

// probe asks whether the user may run all that branches need.
func (p *Participant) probe(ctx context.Context) error {
	a, err := p.run(ctx, verbProbe, participant.Branch{}, false, nil, nil)
	if err != nil {
		return fmt.Errorf("run a script: %w", err)
	}
	if a.what != isAble {
		return a.err(p)
	}
	return nil
}

func at(client *goredis.Client) string { return client.Options().Addr }

func atLeast(version string, major int) bool {
	digits, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(digits)
	return err == nil && n >= major
}
