{{/* Ways out, as rules of NetworkPolicies. */}}

{{/* Ports of one URL or of several with commas between, as a list. Takes url and default. */}}
{{- define "se.urlPorts" -}}
{{- $ports := list -}}
{{- range splitList "," (.url | default "") -}}
{{- $found := regexFind ":[0-9]+(/|$)" (trim .) | regexFind "[0-9]+" -}}
{{- $schemes := ternary "80" $.default (hasPrefix "http://" (trim .)) -}}
{{- $ports = append $ports ($found | default $schemes) -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* A server of the operator's: its ports, at the peers that were named or anywhere. Takes ports and peers. */}}
{{- define "se.toServer" -}}
- ports:
    {{- range .ports }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
  {{- with .peers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* A part or workload of this release. Takes root, name and port. */}}
{{- define "se.toPart" -}}
- ports:
    - protocol: TCP
      port: {{ .port }}
  to:
    - podSelector:
        matchLabels:
          {{- include "se.selector" . | nindent 10 }}
{{- end -}}

{{- define "se.toDns" -}}
{{- if .Values.networkPolicy.egress.toDns -}}
- ports:
    - protocol: UDP
      port: 53
    - protocol: TCP
      port: 53
  to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Values.networkPolicy.egress.dnsNamespace }}
    # The usual address of the cache that runs on every node.
    - ipBlock:
        cidr: 169.254.20.10/32
{{- end -}}
{{- end -}}

{{- define "se.toInternet" -}}
{{- $e := .Values.networkPolicy.egress -}}
{{- if $e.toInternet -}}
- ports:
    {{- range $e.internetPorts }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
  to:
    # Link-local holds the clouds' metadata services.
    - ipBlock:
        cidr: 0.0.0.0/0
        except:
          - 169.254.0.0/16
          {{- if $e.exceptPrivate }}
          - 10.0.0.0/8
          - 100.64.0.0/10
          - 172.16.0.0/12
          - 192.168.0.0/16
          {{- end }}
    - ipBlock:
        cidr: ::/0
        except:
          - fe80::/10
          {{- if $e.exceptPrivate }}
          - fc00::/7
          {{- else }}
          - fd00:ec2::254/128
          {{- end }}
{{- end -}}
{{- end -}}

{{- define "se.toPostgres" -}}
{{- include "se.toServer" (dict "ports" (list (int .Values.postgresql.external.port)) "peers" .Values.networkPolicy.egress.peers.postgresql) -}}
{{- end -}}

{{- define "se.toNats" -}}
{{- if .Values.nats.enabled -}}
{{- include "se.toPart" (dict "root" . "name" "nats" "port" 4222) -}}
{{- else -}}
{{- $ports := fromJsonArray (include "se.urlPorts" (dict "url" .Values.nats.external.url "default" "4222")) -}}
{{- include "se.toServer" (dict "ports" $ports "peers" .Values.networkPolicy.egress.peers.nats) -}}
{{- end -}}
{{- end -}}

{{- define "se.toNatsMonitoring" -}}
{{- if .Values.nats.monitoringEndpoint -}}
{{- $ports := fromJsonArray (include "se.urlPorts" (dict "url" .Values.nats.monitoringEndpoint "default" "8222")) -}}
{{- include "se.toServer" (dict "ports" $ports "peers" .Values.networkPolicy.egress.peers.nats) -}}
{{- else if .Values.nats.enabled -}}
{{- include "se.toPart" (dict "root" . "name" "nats" "port" 8222) -}}
{{- end -}}
{{- end -}}

{{- define "se.toQdrant" -}}
{{- $ports := fromJsonArray (include "se.urlPorts" (dict "url" .Values.qdrant.external.url "default" "443")) -}}
{{- include "se.toServer" (dict "ports" $ports "peers" .Values.networkPolicy.egress.peers.qdrant) -}}
{{- end -}}

{{- define "se.toS3" -}}
{{- $ports := fromJsonArray (include "se.urlPorts" (dict "url" .Values.storage.s3.endpoint "default" "443")) -}}
{{- include "se.toServer" (dict "ports" $ports "peers" .Values.networkPolicy.egress.peers.s3) -}}
{{- end -}}

{{- define "se.toOidc" -}}
{{- $ports := fromJsonArray (include "se.urlPorts" (dict "url" .Values.dex.external.issuerUrl "default" "443")) -}}
{{- include "se.toServer" (dict "ports" $ports "peers" .Values.networkPolicy.egress.peers.oidc) -}}
{{- end -}}

{{- define "se.toTika" -}}
{{- if .Values.tika.enabled -}}
{{- include "se.toPart" (dict "root" . "name" "tika" "port" 9998) -}}
{{- else -}}
{{- $ports := fromJsonArray (include "se.urlPorts" (dict "url" .Values.tika.externalUrl "default" "443")) -}}
{{- include "se.toServer" (dict "ports" $ports "peers" .Values.networkPolicy.egress.peers.tika) -}}
{{- end -}}
{{- end -}}

{{- define "se.toOtel" -}}
{{- $o := .Values.observability.otelCollector -}}
{{- if $o.enabled -}}
{{- include "se.toPart" (dict "root" . "name" "otel-collector" "port" 4318) -}}
{{- else if $o.externalEndpoint -}}
{{- $ports := fromJsonArray (include "se.urlPorts" (dict "url" $o.externalEndpoint "default" "443")) -}}
{{- include "se.toServer" (dict "ports" $ports "peers" .Values.networkPolicy.egress.peers.otel) -}}
{{- end -}}
{{- end -}}

{{/* Everything that a workload of the product talks to. Takes root and name. */}}
{{- define "se.productEgress" -}}
{{- $root := .root -}}
{{- range $rule := list "se.toDns" "se.toPostgres" "se.toNats" "se.toQdrant" "se.toS3" "se.toTika" "se.toOtel" }}
{{ include $rule $root }}
{{- end }}
{{- if eq .name "api" }}
{{ include "se.toOidc" $root }}
{{ include "se.toNatsMonitoring" $root }}
{{- end }}
{{ include "se.toInternet" $root }}
{{- with $root.Values.networkPolicy.egress.extra }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Pods of this release by name. Takes root and names. */}}
{{- define "se.fromPods" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/instance: {{ .root.Release.Name }}
    matchExpressions:
      - key: app.kubernetes.io/name
        operator: In
        values: {{ toJson .names }}
{{- end -}}

{{- define "se.fromNamespace" -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
{{- end -}}

{{/* One policy. Takes root, name, ingress and egress as texts. */}}
{{- define "se.policy" -}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "se.fullname" .root }}-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "se.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "se.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- with trim (.ingress | default "") }}
  ingress:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with trim (.egress | default "") }}
  egress:
    {{- . | nindent 4 }}
  {{- end }}
{{- end -}}
