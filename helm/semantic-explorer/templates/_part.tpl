{{/* A server that the chart brings beside the product: one Deployment or StatefulSet, account and Service. */}}

{{- define "se.partHead" -}}
metadata:
  name: {{ .full | default (printf "%s-%s" (include "se.fullname" .root) .name) }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "se.labels" . | nindent 4 }}
{{- end -}}

{{/* Pod of a part. Takes root, name, v (image, resources), and as texts: command, env, ports, probe, mounts, volumes, checksum. */}}
{{- define "se.partPod" -}}
metadata:
  labels:
    {{- include "se.labels" . | nindent 4 }}
  {{- with .checksum }}
  annotations:
    checksum/config: {{ . }}
  {{- end }}
spec:
  {{- include "se.pod" .root | nindent 2 }}
  serviceAccountName: {{ include "se.fullname" .root }}-{{ .name }}
  containers:
    - name: {{ .name }}
      image: {{ .v.image.repository }}:{{ .v.image.tag }}
      {{- with .args }}
      args:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .env }}
      env:
        {{- range $name, $value := . }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
      {{- end }}
      ports:
        {{- range $name, $port := .ports }}
        - name: {{ $name }}
          containerPort: {{ $port }}
        {{- end }}
      readinessProbe:
        {{- toYaml .probe | nindent 8 }}
      livenessProbe:
        {{- toYaml (merge (dict "initialDelaySeconds" 30 "failureThreshold" 6) .probe) | nindent 8 }}
      resources:
        {{- toYaml .v.resources | nindent 8 }}
      securityContext:
        {{- toYaml .root.Values.podSecurityContext | nindent 8 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- with .mounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- with .volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* The whole part. Takes beside that: replicas, disk (persistence with size and storageClass) or nothing. */}}
{{- define "se.part" -}}
---
apiVersion: v1
kind: ServiceAccount
{{ include "se.partHead" . }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
{{ include "se.partHead" (merge (dict "full" .serviceName) .) }}
spec:
  selector:
    {{- include "se.selector" . | nindent 4 }}
  ports:
    {{- range $name, $port := .ports }}
    - name: {{ $name }}
      port: {{ $port }}
      targetPort: {{ $name }}
    {{- end }}
---
apiVersion: apps/v1
kind: {{ if .disk }}StatefulSet{{ else }}Deployment{{ end }}
{{ include "se.partHead" . }}
spec:
  replicas: {{ .replicas }}
  selector:
    matchLabels:
      {{- include "se.selector" . | nindent 6 }}
  {{- if .disk }}
  serviceName: {{ .serviceName | default (printf "%s-%s" (include "se.fullname" .root) .name) }}
  {{- end }}
  template:
    {{- include "se.partPod" . | nindent 4 }}
  {{- with .disk }}
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ .size }}
  {{- end }}
{{- end -}}
