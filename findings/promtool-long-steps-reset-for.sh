#!/usr/bin/env bash
# promtool test rules: with steps of 7 minutes or more, an alert with `for` never fires, though its series never changes.
#
# An alert that takes days to fire is easily tested with a long step (interval: 6h). A sample is stale after 5 minutes, so between
# two steps the expression has no result for a while. Rules are evaluated by evaluation_interval (1 minute by default) and not by
# the step of the series, so the alert becomes pending at each step and inactive soon after it. No warning says so: a test that
# expects no alert passes for the wrong reason. An evaluation_interval as long as the interval helps.
#
# Seen with promtool 2.42.0 (Debian 12, prometheus 2.42.0+ds-5+deb12u1), an alert with `for: 1h` on a series that is always 1:
#   interval 5m: fires
#   interval 10m: silent
#   interval 10m, evaluation_interval 10m: fires
#
# Needs apt-get and dpkg-deb. deploy/prometheus/rules.week.test.yaml is written with this in mind.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download --quiet=2 prometheus=2.42.0+ds-5+deb12u1
dpkg-deb --extract prometheus_*.deb package

cat >rules.yaml <<'YAML'
groups:
  - name: example
    rules:
      - {alert: Always, expr: up == 1, for: 1h}
YAML
# What an alert does after three hours: "fires" or "silent".
seen() {
    cat >test.yaml <<YAML
rule_files: [rules.yaml]
evaluation_interval: $2
tests:
  - interval: $1
    input_series: [{series: 'up{job="gate"}', values: '1x100'}]
    alert_rule_test:
      - alertname: Always
        eval_time: 3h
        exp_alerts: [{exp_labels: {job: gate}}]
YAML
    if package/usr/bin/promtool test rules test.yaml >said 2>&1; then
        echo fires
    elif grep -q 'got:\[\]' said; then
        echo silent
    else
        cat said >&2
        exit 1
    fi
}
short=$(seen 5m 1m)
long=$(seen 10m 1m)
both=$(seen 10m 10m)
printf 'interval 5m: %s\ninterval 10m: %s\ninterval 10m, evaluation_interval 10m: %s\n' "$short" "$long" "$both"
[ "$short $long $both" = "fires silent fires" ]
