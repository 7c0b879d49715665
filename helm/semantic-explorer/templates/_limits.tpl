{{/* Sums over the values: time to stop, jobs at a time, connections. */}}

{{/* Seconds of the preStop hook: of a sleep, native or in a shell. */}}
{{- define "se.preStopSeconds" -}}
{{- $hook := (fromYaml (include "se.lifecycle" .)).preStop | default dict -}}
{{- if $hook.sleep -}}
{{- int $hook.sleep.seconds -}}
{{- else if $hook.exec -}}
{{- regexFind "sleep +[0-9]+" (join " " $hook.exec.command) | regexFind "[0-9]+" | default "0" -}}
{{- else -}}
0
{{- end -}}
{{- end -}}

{{/* Seconds that work in flight is given. Takes root, workload and v. */}}
{{- define "se.drainSeconds" -}}
{{- if .workload.pool -}}
{{- int .v.drainSeconds -}}
{{- else -}}
{{- (fromYaml (include "se.plainEnv" .)).SHUTDOWN_TIMEOUT_SECS | int -}}
{{- end -}}
{{- end -}}

{{/* Most pods that a workload may have. */}}
{{- define "se.mostPods" -}}
{{- if or .autoscaling.enabled (.keda).enabled -}}{{ int .autoscaling.maxReplicas }}{{- else -}}{{ int .replicaCount }}{{- end -}}
{{- end -}}

{{/* Fewest pods that a workload may have. */}}
{{- define "se.fewestPods" -}}
{{- if or .autoscaling.enabled (.keda).enabled -}}{{ int .autoscaling.minReplicas }}{{- else -}}{{ int .replicaCount }}{{- end -}}
{{- end -}}

{{/* Whether the budget lets no pod go, so that nodes cannot be drained. Takes the workload's values. */}}
{{- define "se.budgetHoldsAll" -}}
{{- $budget := .podDisruptionBudget -}}
{{- $may := toString $budget.maxUnavailable -}}
{{- $must := toString $budget.minAvailable -}}
{{- $pods := int (include "se.fewestPods" .) -}}
{{- if not $budget.enabled -}}
{{- else if $may -}}
{{- if has $may (list "0" "0%") }}yes{{ end -}}
{{- else if or (eq $must "100%") (and (gt $pods 0) (not (hasSuffix "%" $must)) (ge (int $must) $pods)) -}}
yes
{{- end -}}
{{- end -}}

{{/* Connections to Postgres when everything runs at its most; 10 for migrations and people. */}}
{{- define "se.connections" -}}
{{- $root := . -}}
{{- $sum := 10 -}}
{{- range fromYamlArray (include "se.workloads" .) -}}
{{- $v := get $root.Values .key -}}
{{- $sum = add $sum (mul (int (include "se.mostPods" $v)) (int (get ($v.env | default dict) "DB_MAX_CONNECTIONS" | default "20"))) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* What does not hinder, but should be known; one line each. */}}
{{- define "se.warnings" -}}
{{- $root := . -}}
{{- range fromYamlArray (include "se.workloads" .) }}
{{- $v := get $root.Values .key }}
{{- $most := int (include "se.mostPods" $v) }}
{{- if .pool }}
{{- $env := fromYaml (include "se.plainEnv" (dict "root" $root "workload" . "v" $v)) }}
{{- $jobs := mul $most (int $env.MAX_CONCURRENT_JOBS) }}
{{- if gt (int $jobs) 100 }}
- {{ .key }}: {{ $most }} pods x {{ $env.MAX_CONCURRENT_JOBS }} jobs = {{ $jobs }}, but NATS hands out 100 at a time to the whole pool (max_ack_pending): the rest stands idle.
{{- end }}
{{- end }}
{{- if include "se.budgetHoldsAll" $v }}
- {{ .key }}: podDisruptionBudget.minAvailable or maxUnavailable lets none of the pods go: no node that holds one can be drained. Run more, or set maxUnavailable: 1.
{{- end }}
{{- end }}
{{- $connections := int (include "se.connections" .) }}
{{- if gt $connections (int .Values.postgresql.maxConnections) }}
- Postgres: up to {{ $connections }} connections, but postgresql.maxConnections is {{ .Values.postgresql.maxConnections }}. Raise max_connections there (it needs a restart of Postgres) and here, or lower DB_MAX_CONNECTIONS.
{{- end }}
{{- if hasPrefix "http://localhost" (include "se.publicUrl" .) }}
- publicUrl is {{ include "se.publicUrl" . }}: only a port-forward reaches pages and API. Set publicUrl, or ingress.enabled and ingress.host.
{{- end }}
{{- if and .Values.ingress.enabled (not (get (.Values.api.env | default dict) "TRUSTED_PROXIES")) }}
- api.env.TRUSTED_PROXIES is not set: behind the ingress everybody has its address, in the limits of requests and in the audit log. Name the network of the controller's pods.
{{- end }}
{{- if .Values.nats.enabled }}
- nats.enabled runs one NATS server, for trials: what it holds is on one disk. Use a cluster of three and nats.external.
{{- else if lt (int (get (.Values.api.env | default dict) "NATS_REPLICAS")) 3 }}
- api.env.NATS_REPLICAS is {{ get (.Values.api.env | default dict) "NATS_REPLICAS" | default "not set" }}: the streams do not outlive the loss of a NATS server.
{{- end }}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.egress.toInternet) }}
- networkPolicy.egress.toInternet is off, but each list of networkPolicy.egress.peers that is empty leaves its port open to any address.
{{- end }}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.egress.toDns) }}
- networkPolicy.egress.toDns is off: no host name resolves, every server must be given by address.
{{- end }}
{{- end -}}
