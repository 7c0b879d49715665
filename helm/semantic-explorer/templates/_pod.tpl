{{/* The pod of one of the product's workloads. Takes root, workload and v. */}}

{{/* As in the Procfile; Kubernetes fills in $(NAME), so that no shell is needed. */}}
{{- define "se.command" -}}
{{- if .workload.pool -}}
- dramatiq
- tasks.{{ .workload.pool }}:broker
- --skip-logging
- --processes
- "1"
- --threads
- $(MAX_CONCURRENT_JOBS)
- --worker-shutdown-timeout
- {{ mul (int .v.drainSeconds) 1000 | quote }}
{{- else -}}
- gunicorn
- wsgi:app
- --bind
- $(HOSTNAME):$(PORT)
- --worker-class
- gthread
- --threads
- $(WEB_THREADS)
- --graceful-timeout
- $(SHUTDOWN_TIMEOUT_SECS)
- --timeout
- "120"
{{- end -}}
{{- end -}}

{{- define "se.affinity" -}}
{{- if .v.affinity -}}
{{- toYaml .v.affinity -}}
{{- else if eq .v.antiAffinityPreset "hard" -}}
podAntiAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "se.selector" (dict "root" .root "name" .workload.name) | nindent 10 }}
{{- else if eq .v.antiAffinityPreset "soft" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "se.selector" (dict "root" .root "name" .workload.name) | nindent 12 }}
{{- end -}}
{{- end -}}

{{/* A hook given as exec or httpGet replaces the sleep of the defaults: Kubernetes takes one handler. */}}
{{- define "se.lifecycle" -}}
{{- $lifecycle := deepCopy (.lifecycle | default dict) -}}
{{- with $lifecycle.preStop -}}
{{- if or .exec .httpGet -}}
{{- $_ := unset . "sleep" -}}
{{- end -}}
{{- end -}}
{{- toYaml $lifecycle -}}
{{- end -}}

{{- define "se.container" -}}
- name: {{ .workload.name }}
  image: {{ include "se.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command:
    {{- include "se.command" . | nindent 4 }}
  env:
    {{- include "se.env" . | nindent 4 }}
  ports:
    - name: http
      containerPort: {{ include "se.port" . }}
  {{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
  {{- with get $.v $probe }}
  {{ $probe }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with fromYaml (include "se.lifecycle" .v) }}
  lifecycle:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml .v.resources | nindent 4 }}
  securityContext:
    {{- toYaml .root.Values.podSecurityContext | nindent 4 }}
  volumeMounts:
    {{- include "se.mounts" . | nindent 4 }}
    {{- with .v.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "se.podTemplate" -}}
metadata:
  labels:
    {{- with .v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "se.labels" (dict "root" .root "name" .workload.name) | nindent 4 }}
  annotations:
    checksum/secrets: {{ include "se.secretsChecksum" .root }}
    {{- with .v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "se.pod" .root | nindent 2 }}
  serviceAccountName: {{ include "se.accountName" (dict "root" .root "v" .v "name" .workload.name) }}
  terminationGracePeriodSeconds: {{ .v.terminationGracePeriodSeconds }}
  {{- with include "se.affinity" . }}
  affinity:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.global.zoneTopologyKey }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "se.selector" (dict "root" $.root "name" $.workload.name) | nindent 10 }}
  {{- end }}
  {{- with .v.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .v.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    {{- include "se.container" . | nindent 4 }}
  volumes:
    {{- include "se.volumes" (dict "tmp" .v.tmpSizeLimit "cache" .v.cacheSizeLimit) | nindent 4 }}
    {{- with .v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
