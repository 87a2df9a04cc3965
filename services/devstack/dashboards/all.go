package dashboards

import (
	"fmt"
	"strings"
)

// Quick is the selector of calls that the objective of latency is about, as in
// docs/alerts.yaml.
const Quick = `rpc_method!~"_OTHER|grpc[.].*|.*/(Watch|Stream|Export|Import|Sync|Recompute|TakeSnapshot).*"`

// rate is that of a counter, summed by labels. more are further matchers.
func rate(by, name string, more ...string) Query {
	return Query{fmt.Sprintf("sum by (%s) (rate(%s[$__rate_interval]))", by, chosen(name, more...)), legend(by)}
}

// quantile is that of a histogram, by labels.
func quantile(q float64, by, name string, more ...string) Query {
	return Query{fmt.Sprintf("histogram_quantile(%g, sum by (%s, le) (rate(%s[$__rate_interval])))", q, by,
		chosen(name+"_bucket", more...)), fmt.Sprintf("p%g %s", 100*q, legend(by))}
}

// gauge is that of each group of labels which aggregate chooses: min, max or sum.
func gauge(aggregate, by, name string, more ...string) Query {
	return Query{fmt.Sprintf("%s by (%s) (%s)", aggregate, by, chosen(name, more...)), legend(by)}
}

// ratio is one rate by another.
func ratio(by, part, of string) Query {
	return Query{rate(by, part).Expr + " / " + rate(by, of).Expr, legend(by)}
}

func chosen(name string, more ...string) string {
	return name + "{" + strings.Join(append([]string{`namespace="$namespace"`}, more...), ", ") + "}"
}

func legend(by string) string {
	var b strings.Builder
	for i, label := range strings.Split(by, ", ") {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("{{" + label + "}}")
	}
	return b.String()
}

func panel(title, unit string, queries ...Query) Panel { return Panel{title, unit, queries} }

func service(name string) string { return `job="purser-` + name + `"` }

// calls are the panels of a service's methods.
func calls(of string) []Panel {
	const method = "rpc_method"
	const duration = "rpc_server_call_duration_seconds"
	return []Panel{
		panel("Calls by method", "ops", rate(method, duration+"_count", service(of))),
		panel("Calls by code", "ops", rate("rpc_response_status_code", duration+"_count", service(of))),
		panel("Duration of quick calls", "s", quantile(0.99, method, duration, service(of), Quick)),
	}
}

// All returns the dashboards.
func All() []Dashboard {
	return []Dashboard{
		suite(), auth(), wallet(), portfolio(), stores(), jobs(),
	}
}

func suite() Dashboard {
	const duration = "rpc_server_call_duration_seconds"
	burn := func(name string, budget float64) Query {
		return Query{fmt.Sprintf(`%s{namespace="$namespace"} / %g`, name, budget), "{{job}}"}
	}
	return Dashboard{"suite", "Purser: suite", []Panel{
		panel("Replicas that can be scraped", "short", gauge("sum", "job", "up", `job=~"purser-.*"`)),
		panel("Dependencies that can be reached", "short", gauge("min", "job, dependency", "dependency_up")),
		panel("What replicas wait for at their start", "short", gauge("max", "job, check", "startup_waiting")),
		panel("Calls", "ops", rate("job", duration+"_count")),
		panel("Calls by code", "ops", rate("job, rpc_response_status_code", duration+"_count")),
		panel("Failed calls", "ops", rate("job, code", "rpc_server_errors_total")),
		panel("Duration of quick calls", "s", quantile(0.5, "job", duration, Quick),
			quantile(0.99, "job", duration, Quick)),
		panel("Availability: budget spent, 1 is the even rate", "short",
			burn("purser:calls_failed:ratio_rate1h", 0.001)),
		panel("Latency: budget spent, 1 is the even rate", "short", burn("purser:calls_slow:ratio_rate1h", 0.01)),
		panel("Calls between services", "ops",
			rate("job, rpc_method, rpc_response_status_code", "rpc_client_call_duration_seconds_count")),
		panel("Calls of unknown methods", "ops", rate("job", duration+"_count", `rpc_method="_OTHER"`)),
		panel("Processors", "short", rate("job, instance", "process_cpu_seconds_total")),
		panel("Memory", "bytes", gauge("sum", "job, instance", "process_resident_memory_bytes")),
		panel("Goroutines", "short", gauge("sum", "job, instance", "go_goroutines")),
	}}
}

func auth() Dashboard {
	return Dashboard{"auth", "Purser: auth and keys", append(calls("auth"),
		panel("Next step of the key rotation", "s", gauge("min", "namespace", "jwt_key_next_step_seconds")),
		panel("Age of the key ring", "s", gauge("max", "instance", "jwt_key_ring_age_seconds")),
		panel("Epoch of the key ring", "short", gauge("max", "instance", "jwt_key_ring_epoch")),
		panel("Rotations and failed attempts", "ops", Query{rate("job", "jwt_key_rotations_total").Expr, "rotations"},
			Query{rate("job", "jwt_key_rotation_errors_total").Expr, "failed"}),
		panel("Clocks of signers", "s", gauge("max", "instance", "jwt_signer_clock_skew_seconds")),
		panel("Age of verifiers' revocations", "s", gauge("max", "job, instance", "authn_revocations_age_seconds")),
		panel("Revocations that verifiers keep", "short", gauge("max", "job", "authn_revocations_known")),
		panel("Mails", "ops", Query{rate("kind", "mails_sent_total").Expr, "sent {{kind}}"},
			Query{rate("kind", "mails_failed_total").Expr, "failed {{kind}}"},
			Query{rate("kind", "mails_dead_total").Expr, "given up {{kind}}"}),
		panel("Sign-in attempts counted by one replica alone", "ops", rate("job", "auth_attempts_local_total")),
		panel("Audit events sealed", "ops", rate("job", "audit_events_sealed_total")),
		panel("Oldest deletion that is not erased", "s",
			gauge("max", "service_account", "account_unerased_seconds")),
	)}
}

func wallet() Dashboard {
	return Dashboard{"wallet", "Purser: wallet", append(calls("wallet"),
		panel("Wallets synced", "ops", Query{rate("job", "wallets_synced_total").Expr, "synced"},
			Query{rate("job", "wallets_sync_failed_total").Expr, "failed"}),
		panel("Age of the oldest balances", "s", gauge("max", "namespace", "wallets_oldest_sync_seconds")),
		panel("Age of prices", "s", quantile(0.5, "source", "price_age_seconds"),
			quantile(0.95, "source", "price_age_seconds")),
		panel("Failed calls to sources of prices", "ops", rate("source", "price_source_failures_total")),
		panel("Prices that differ by too much", "ops", rate("source, other", "price_disagreements_total")),
		panel("Answers of nodes and price sources", "s",
			quantile(0.95, "dependency", "dependency_latency_seconds", service("wallet"))),
		panel("Changes numbered", "ops", rate("job", "changes_numbered_total")),
		panel("Streams of changes", "short", gauge("sum", "instance", "change_streams")),
		panel("Rows of the history without a partition", "short", gauge("max", "job, table", "history_default_rows")),
		panel("Months of the history ahead", "short", gauge("min", "job, table", "history_months_ahead")),
	)}
}

func portfolio() Dashboard {
	return Dashboard{"portfolio", "Purser: portfolio", append(calls("portfolio"),
		panel("Valuations from the cache", "percentunit", Query{
			"(" + rate("entity", "cache_hits_total", service("portfolio")).Expr + ") / (" +
				rate("entity", "cache_hits_total", service("portfolio")).Expr + " + " +
				rate("entity", "cache_misses_total", service("portfolio")).Expr + ")", "{{entity}}"}),
		panel("Time to load what is not cached", "s",
			quantile(0.95, "entity", "cache_load_duration_seconds", service("portfolio"))),
		panel("Streams of valuations", "short", gauge("sum", "instance", "valuation_watchers")),
		panel("Snapshots: runs of the job", "s",
			quantile(0.95, "task_name", "task_duration_seconds", service("portfolio"))),
		panel("Alerts fired", "ops", rate("kind", "alerts_fired_total")),
		panel("Looks at alert rules that failed", "ops", rate("job", "alert_looks_failed_total")),
		panel("Webhooks", "ops", Query{rate("job", "webhooks_delivered_total").Expr, "delivered"},
			Query{rate("job", "webhooks_failed_total").Expr, "failed"},
			Query{rate("job", "webhooks_dead_total").Expr, "given up"}),
	)}
}

func stores() Dashboard {
	return Dashboard{"stores", "Purser: Postgres and Redis", []Panel{
		panel("Postgres: connections", "short",
			gauge("sum", "job, state", "postgres_connections"),
			Query{gauge("sum", "job", "postgres_connections_max").Expr, "{{job}} at most"}),
		panel("Postgres: waits for a connection", "ops", rate("job", "postgres_pool_waits_total")),
		panel("Postgres: seconds waited in a second", "s", rate("job", "postgres_pool_wait_seconds_total")),
		panel("Redis: commands", "ops", rate("job", "redis_command_seconds_count")),
		panel("Redis: time of a command", "s", quantile(0.5, "job", "redis_command_seconds"),
			quantile(0.99, "job", "redis_command_seconds")),
		panel("Redis: connections", "short", gauge("sum", "job, state", "redis_connections")),
		panel("Redis: no connection in time", "ops", rate("job", "redis_pool_timeouts_total")),
		panel("Redis: breaker open", "short", gauge("max", "job, server_address", "redis_breaker_open")),
		panel("Answers to checks", "s", quantile(0.95, "job, dependency", "dependency_latency_seconds",
			`dependency=~"postgres|redis"`)),
		panel("Cache: hits and misses", "ops",
			Query{rate("job, entity", "cache_hits_total").Expr, "hits {{job}} {{entity}}"},
			Query{rate("job, entity", "cache_misses_total").Expr, "misses {{job}} {{entity}}"}),
		panel("Cache: reads without Redis", "ops", rate("job, entity", "cache_degraded_total")),
		panel("Cache: stale fills prevented", "ops", rate("job, entity", "cache_superseded_total")),
		panel("Cache: keys not invalidated", "ops", rate("job, entity", "cache_invalidation_failures_total")),
		panel("Locks: time waited", "s", quantile(0.5, "job", "lock_wait_seconds"),
			quantile(0.99, "job", "lock_wait_seconds")),
		panel("Locks: lost", "ops", rate("job", "lock_lost_total")),
	}}
}

func jobs() Dashboard {
	return Dashboard{"jobs", "Purser: jobs", []Panel{
		panel("Runs that succeeded", "ops", rate("job, task_name", "task_success_total")),
		panel("Runs that failed", "ops", rate("job, task_name", "task_error_total")),
		panel("Ticks left out, replaced or left to others", "ops",
			rate("job, task_name, reason", "task_skipped_total")),
		panel("Duration of a run", "s", quantile(0.5, "job, task_name", "task_duration_seconds"),
			quantile(0.95, "job, task_name", "task_duration_seconds")),
		panel("Runs that failed, of all", "percentunit", ratio("job, task_name", "task_error_total",
			"task_duration_seconds_count")),
		panel("Age of the oldest balances", "s", gauge("max", "namespace", "wallets_oldest_sync_seconds")),
	}}
}
