{{/* What cannot work, each with the way out; all at once. */}}

{{- define "se.validateKey" -}}
{{- $key := .Values.encryption.masterKey -}}
{{- if not (kindIs "string" $key) }}
- encryption.masterKey came as a number and has lost digits: put it in quotes, or use --set-string.
{{- else if and $key (not (regexMatch "^[0-9a-fA-F]{64}$" $key)) }}
- encryption.masterKey must be exactly 64 hexadecimal digits (256 bits, as `openssl rand -hex 32` makes them); it has {{ len $key }} characters.
{{- end }}
{{- end -}}

{{- define "se.validateSecrets" -}}
{{- $root := . -}}
{{- range fromYamlArray (include "se.secretEntries" .) }}
{{- if and .need (not (include "se.secretRef" (dict "root" $root "one" .))) }}
- {{ .key }} is missing: set it, or {{ if $root.Values.secrets.externalSecret.enabled }}secrets.externalSecret.data.{{ .entry }}{{ else }}secrets.existingSecret with an entry {{ .entry }}{{ end }}, or secrets.entries.{{ .entry }}.
{{- end }}
{{- end }}
{{- end -}}

{{- define "se.validateServers" -}}
{{- $v := .Values -}}
{{- $pg := $v.postgresql.external -}}
{{- if not (and $pg.enabled $pg.host $pg.username) }}
- postgresql.external: set enabled: true, host and username; the chart brings no database.
{{- end }}
{{- if and (hasPrefix "verify-" $pg.sslMode) (not $pg.sslRootCert) }}
- postgresql.external.sslMode {{ $pg.sslMode }} needs sslRootCert: the file with the certificate of who signs that of Postgres, mounted with extraVolumes in all four workloads.
{{- end }}
{{- if eq $v.nats.enabled $v.nats.external.enabled }}
- nats: set exactly one of nats.external.enabled (with nats.external.url) and nats.enabled (one server, for trials).
{{- end }}
{{- if not (and $v.qdrant.external.enabled $v.qdrant.external.url) }}
- qdrant.external: set enabled: true and url; the chart brings no Qdrant.
{{- end }}
{{- if not (and $v.dex.external.enabled $v.dex.external.issuerUrl $v.dex.external.clientId) }}
- dex.external: set enabled: true, issuerUrl and clientId; without sign-in the product answers its own machine only.
{{- end }}
{{- if not (or $v.tika.enabled $v.tika.externalUrl) }}
- tika: leave tika.enabled on, or set tika.externalUrl.
{{- end }}
{{- if and $v.ingress.enabled (not $v.ingress.host) }}
- ingress.enabled needs ingress.host.
{{- end }}
{{- range tuple (list "dex.external.issuerUrl" $v.dex.external.issuerUrl) (list "publicUrl" (include "se.publicUrl" .)) }}
{{- $url := last . }}
{{- if and (hasPrefix "http://" $url) (not (regexMatch "^http://(localhost|127\\.0\\.0\\.1|\\[::1\\])(:|/|$)" $url)) }}
- {{ first . }} must begin with https:// : over http anybody on the way could sign in as somebody else.
{{- end }}
{{- end }}
{{- end -}}

{{/* Takes root, workload and v. */}}
{{- define "se.validateWorkload" -}}
{{- $key := .workload.key -}}
{{- $v := .v -}}
{{- $needed := add (int (include "se.preStopSeconds" $v)) (int (include "se.drainSeconds" .)) 5 -}}
{{- if lt (int $v.terminationGracePeriodSeconds) (int $needed) }}
- {{ $key }}.terminationGracePeriodSeconds is {{ $v.terminationGracePeriodSeconds }}, but preStop, drain and 5 more take {{ $needed }}: raise it, or lower {{ if .workload.pool }}{{ $key }}.drainSeconds{{ else }}api.env.SHUTDOWN_TIMEOUT_SECS{{ end }}.
{{- end }}
{{- if and $v.autoscaling.enabled ($v.keda).enabled }}
- {{ $key }}: autoscaling.enabled and keda.enabled would fight over the pods: switch one off.
{{- end }}
{{- if and (or $v.autoscaling.enabled ($v.keda).enabled) (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) }}
- {{ $key }}.autoscaling: minReplicas is above maxReplicas.
{{- end }}
{{- if and $v.autoscaling.enabled (not (($v.resources).requests).cpu) }}
- {{ $key }}.autoscaling.enabled needs {{ $key }}.resources.requests.cpu, against which the load is measured.
{{- end }}
{{- if and ($v.keda).enabled (not (include "se.natsMonitoring" .root)) }}
- {{ $key }}.keda.enabled needs nats.monitoringEndpoint: host:port of the NATS monitoring page (8222).
{{- end }}
{{- $port := include "se.port" . -}}
{{- range $probe := list "livenessProbe" "readinessProbe" "startupProbe" }}
{{- $asked := ((get $v $probe | default dict).httpGet).port }}
{{- if and $asked (ne (toString $asked) "http") (ne (toString $asked) $port) }}
- {{ $key }}.{{ $probe }} asks port {{ $asked }}, but {{ if $v.drainSeconds }}env.HEALTH_CHECK_PORT{{ else }}env.PORT{{ end }} is {{ $port }}: change both.
{{- end }}
{{- end }}
{{- if and .root.Values.nats.enabled (ne (toString (get ($v.env | default dict) "NATS_REPLICAS")) "1") }}
- {{ $key }}.env.NATS_REPLICAS must be "1" with nats.enabled: one server cannot keep {{ get ($v.env | default dict) "NATS_REPLICAS" | default "more" }} copies.
{{- end }}
{{- end -}}

{{- define "se.validate" -}}
{{- $root := . -}}
{{- include "se.validateKey" . -}}
{{- include "se.validateServers" . -}}
{{- include "se.validateSecrets" . -}}
{{- range fromYamlArray (include "se.workloads" .) -}}
{{- include "se.validateWorkload" (dict "root" $root "workload" . "v" (get $root.Values .key)) -}}
{{- end -}}
{{- end -}}
