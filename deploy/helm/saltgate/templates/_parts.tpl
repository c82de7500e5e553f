{{/* The labels of every object, and what selects the pods: one release is one set of gates. */}}
{{- define "saltgate.labels" -}}
app.kubernetes.io/name: {{ .Release.Name }}
{{- end }}

{{/* The configuration: the chart's own, or the whole file from the values. */}}
{{- define "saltgate.config" -}}
{{- $own := .Files.Get "files/saltgate.toml" -}}
{{- if .Values.secrets.postgres -}}
{{- $own = print $own "\n" (.Files.Get "files/ship.toml") -}}
{{- end -}}
{{ .Values.config | default $own }}
{{- end }}

{{/* The port of the service, for the NetworkPolicy. */}}
{{- define "saltgate.upstreamPort" -}}
{{- $url := urlParse .Values.upstream -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) -}}
{{- $port | default (eq $url.scheme "https" | ternary "443" "80") -}}
{{- end }}
