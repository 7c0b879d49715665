{{/* The environment of the product's processes. */}}

{{/* Secrets: entry of a Secret, variable, key of the values, value given inline, whether it must be there. */}}
{{- define "se.secretEntries" -}}
{{- $v := .Values -}}
{{- $nats := $v.nats.external.url -}}
{{- if $v.nats.enabled -}}
{{- $nats = printf "nats://%s-nats:4222" (include "se.fullname" .) -}}
{{- end -}}
- {entry: encryption-master-key, env: ENCRYPTION_MASTER_KEY, key: encryption.masterKey, inline: {{ $v.encryption.masterKey | toString | toJson }}, need: true}
- {entry: encryption-retired-keys, env: ENCRYPTION_RETIRED_KEYS, key: encryption.retiredKeys, inline: {{ $v.encryption.retiredKeys | toJson }}, need: false}
- {entry: database-password, env: PGPASSWORD, key: postgresql.external.password, inline: {{ $v.postgresql.external.password | toJson }}, need: true}
- {entry: nats-url, env: NATS_URL, key: nats.external.url, inline: {{ $nats | toJson }}, need: true}
- {entry: oidc-client-secret, env: OIDC_CLIENT_SECRET, key: dex.external.clientSecret, inline: {{ $v.dex.external.clientSecret | toJson }}, need: true, only: api}
- {entry: qdrant-api-key, env: QDRANT_API_KEY, key: qdrant.external.apiKey, inline: {{ $v.qdrant.external.apiKey | toJson }}, need: false}
{{- if not $v.storage.s3.useRole }}
- {entry: s3-access-key-id, env: AWS_ACCESS_KEY_ID, key: storage.s3.accessKeyId, inline: {{ $v.storage.s3.accessKeyId | toJson }}, need: true}
- {entry: s3-secret-access-key, env: AWS_SECRET_ACCESS_KEY, key: storage.s3.secretAccessKey, inline: {{ $v.storage.s3.secretAccessKey | toJson }}, need: true}
{{- end }}
{{- end -}}

{{/* The Secret that is not the chart's. */}}
{{- define "se.existingSecret" -}}
{{- if .Values.secrets.existingSecret -}}
{{- .Values.secrets.existingSecret -}}
{{- else if .Values.secrets.externalSecret.enabled -}}
{{- printf "%s-secrets" (include "se.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "se.inlineSecret" -}}
{{- printf "%s-inline" (include "se.fullname" .) -}}
{{- end -}}

{{/* The secretKeyRef of one entry, or nothing. Takes root and one of se.secretEntries. */}}
{{- define "se.secretRef" -}}
{{- $elsewhere := get .root.Values.secrets.entries .one.entry -}}
{{- $existing := include "se.existingSecret" .root -}}
{{- $operators := .root.Values.secrets.externalSecret -}}
{{- if $elsewhere -}}
name: {{ $elsewhere.secret }}
key: {{ $elsewhere.key | default .one.entry }}
{{- else if .one.inline -}}
name: {{ include "se.inlineSecret" .root }}
key: {{ .one.entry }}
{{- else if and $existing (or (not $operators.enabled) (hasKey ($operators.data | default dict) .one.entry)) -}}
name: {{ $existing }}
key: {{ .one.entry }}
{{- if not .one.need }}
optional: true
{{- end }}
{{- end -}}
{{- end -}}

{{/* A text as part of a URL. */}}
{{- define "se.urlPart" -}}
{{- urlquery . | replace "+" "%20" -}}
{{- end -}}

{{/* Without a password: libpq reads that from PGPASSWORD, whatever characters it has. */}}
{{- define "se.databaseUrl" -}}
{{- $pg := .Values.postgresql.external -}}
{{- printf "postgresql://%s@%s:%d/%s?sslmode=%s" (include "se.urlPart" $pg.username) $pg.host (int $pg.port) $pg.database $pg.sslMode -}}
{{- with $pg.sslRootCert -}}
&sslrootcert={{ include "se.urlPart" . }}
{{- end -}}
{{- end -}}

{{/* Variables that are no secrets, as a map. Takes root, one of se.workloads and its values v. */}}
{{- define "se.plainEnv" -}}
{{- $v := .root.Values -}}
{{- $env := dict
  "HOME" "/tmp"
  "MODEL_CACHE_DIR" "/var/cache/semantic-explorer/models"
  "NUMBA_CACHE_DIR" "/var/cache/semantic-explorer/numba"
  "DATABASE_URL" (include "se.databaseUrl" .root)
  "QDRANT_URL" $v.qdrant.external.url
  "AWS_ENDPOINT_URL" $v.storage.s3.endpoint
  "AWS_REGION" $v.storage.s3.region
  "S3_BUCKET_NAME" $v.storage.s3.bucket
  "S3_FORCE_PATH_STYLE" (toString $v.storage.s3.forcePathStyle)
  "TIKA_SERVER_ENDPOINT" (include "se.tikaUrl" .root)
  "OTEL_EXPORTER_OTLP_ENDPOINT" (include "se.otelUrl" .root)
-}}
{{- if .workload.pool -}}
{{- $_ := merge $env (dict "HEALTH_CHECK_HOST" "0.0.0.0" "HEALTH_CHECK_PORT" "8080" "MAX_CONCURRENT_JOBS" "10") -}}
{{- else -}}
{{- $_ := merge $env (dict
  "HOSTNAME" "0.0.0.0"
  "PORT" "8080"
  "SHUTDOWN_TIMEOUT_SECS" "30"
  "WEB_THREADS" "32"
  "OIDC_ISSUER_URL" $v.dex.external.issuerUrl
  "OIDC_CLIENT_ID" $v.dex.external.clientId
  "PUBLIC_URL" (include "se.publicUrl" .root)
  "TRACE_URL_TEMPLATE" $v.observability.traceUrlTemplate
  "NATS_MONITORING_URL" (include "se.natsMonitoringUrl" .root)
) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $env (deepCopy (.v.env | default dict))) -}}
{{- end -}}

{{/* The env of a container: variables in the order of their names, then secrets, then extraEnv. */}}
{{- define "se.env" -}}
{{- $scope := . -}}
{{- range $name, $value := fromYaml (include "se.plainEnv" .) }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range fromYamlArray (include "se.secretEntries" .root) }}
{{- $ref := include "se.secretRef" (dict "root" $scope.root "one" .) }}
{{- if and $ref (or (not .only) (eq .only $scope.workload.key)) }}
- name: {{ .env }}
  valueFrom:
    secretKeyRef:
      {{- $ref | nindent 6 }}
{{- end }}
{{- end }}
{{- with .v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The port on which a workload answers probes and serves metrics. */}}
{{- define "se.port" -}}
{{- $env := fromYaml (include "se.plainEnv" .) -}}
{{- if .workload.pool -}}{{ $env.HEALTH_CHECK_PORT }}{{- else -}}{{ $env.PORT }}{{- end -}}
{{- end -}}

{{/* Changes when a secret of the chart's own changes, or at will. */}}
{{- define "se.secretsChecksum" -}}
{{- printf "%s%s" (include "se.secretEntries" .) .Values.secrets.revision | sha256sum -}}
{{- end -}}
