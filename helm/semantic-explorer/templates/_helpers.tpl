{{/* Names, labels and what every pod has. */}}

{{- define "se.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The product's workloads: key in the values, and pool of Dramatiq (none for the web server). */}}
{{- define "se.workloads" -}}
- {key: api, name: api}
- {key: workerCollections, name: worker-collections, pool: collections, stream: COLLECTION_TRANSFORMS, consumer: collection-transforms}
- {key: workerDatasets, name: worker-datasets, pool: datasets, stream: DATASET_TRANSFORMS, consumer: dataset-transforms}
- {key: workerVisualizationsPy, name: worker-visualizations-py, pool: visualizations, stream: VISUALIZATION_TRANSFORMS, consumer: visualization-transforms}
{{- end -}}

{{/* Labels that select one workload: takes root and name. */}}
{{- define "se.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "se.labels" -}}
{{ include "se.selector" . }}
app.kubernetes.io/part-of: semantic-explorer
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.global.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "se.image" -}}
{{- $image := .Values.image -}}
{{- $tag := $image.tag | default .Chart.AppVersion -}}
{{- if $image.digest -}}
{{- printf "%s:%s@%s" $image.repository $tag $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* What the spec of every pod begins with. A Service's name must never become a variable such as PORT. */}}
{{- define "se.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml (mergeOverwrite (deepCopy .Values.global.securityContext) (.Values.global.podSecurityContext | default dict)) | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Volumes of the product's containers: all that they may write to. Takes tmp and cache. */}}
{{- define "se.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .tmp }}
- name: cache
  emptyDir:
    sizeLimit: {{ .cache }}
{{- end -}}

{{- define "se.mounts" -}}
- name: tmp
  mountPath: /tmp
- name: cache
  mountPath: /var/cache/semantic-explorer
{{- end -}}

{{- define "se.accountName" -}}
{{- .v.serviceAccount.name | default (printf "%s-%s" (include "se.fullname" .root) .name) -}}
{{- end -}}

{{- define "se.publicUrl" -}}
{{- if .Values.publicUrl -}}
{{- .Values.publicUrl -}}
{{- else if and .Values.ingress.enabled .Values.ingress.host -}}
{{- printf "https://%s" .Values.ingress.host -}}
{{- else -}}
http://localhost:8080
{{- end -}}
{{- end -}}

{{- define "se.tikaUrl" -}}
{{- if .Values.tika.enabled -}}
{{- printf "http://%s-tika:9998" (include "se.fullname" .) -}}
{{- else -}}
{{- .Values.tika.externalUrl -}}
{{- end -}}
{{- end -}}

{{- define "se.otelUrl" -}}
{{- if .Values.observability.otelCollector.enabled -}}
{{- printf "http://%s-otel-collector:4318" (include "se.fullname" .) -}}
{{- else -}}
{{- .Values.observability.otelCollector.externalEndpoint -}}
{{- end -}}
{{- end -}}

{{/* host:port of the page that KEDA and the API read. */}}
{{- define "se.natsMonitoring" -}}
{{- if .Values.nats.monitoringEndpoint -}}
{{- .Values.nats.monitoringEndpoint -}}
{{- else if .Values.nats.enabled -}}
{{- printf "%s-nats.%s.svc:8222" (include "se.fullname" .) .Release.Namespace -}}
{{- end -}}
{{- end -}}

{{- define "se.natsMonitoringUrl" -}}
{{- with include "se.natsMonitoring" . -}}
{{- printf "http://%s" . -}}
{{- end -}}
{{- end -}}
