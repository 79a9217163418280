{{/* A name of which KEDA makes keda-hpa-NAME, which it refuses beyond 63 characters. */}}
{{- define "fusillade.scaledName" -}}
{{- if gt (len .) 54 }}{{ printf "%s-%s" (. | trunc 45 | trimAll "-.") (. | sha256sum | trunc 8) }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/*
What a model has to do, as a trigger of KEDA. Takes root, kind (prometheus or metrics-api), model (empty: all of them)
and perReplica, the requests that a replica is for.
*/}}
{{- define "fusillade.demandTrigger" -}}
{{- $k := .root.Values.keda -}}
{{- if eq .kind "prometheus" -}}
{{- $of := printf "namespace=%q,state=~%q" .root.Release.Namespace "pending|claimed|processing" -}}
{{- if .model }}{{ $of = printf "%s,model=%q" $of .model }}{{ end -}}
- type: prometheus
  metadata:
    serverAddress: {{ $k.prometheus.serverAddress | quote }}
    query: {{ printf "sum(fusillade_queue_depth{%s})" $of | quote }}
    threshold: {{ .perReplica | toString | quote }}
    activationThreshold: "0"
{{- else -}}
{{- if not (or .root.Values.api.enabled $k.metricsAPI.url) }}{{ fail "keda.metricsAPI.url is empty, and api.enabled is false: there is no API to ask" }}{{ end -}}
{{- $own := printf "http://%s-api.%s.svc:%v" (include "fusillade.name" .root) .root.Release.Namespace .root.Values.api.service.port -}}
- type: metrics-api
  metadata:
    url: {{ printf "%s/admin/v1/demand/%s" ($k.metricsAPI.url | default $own) (.model | urlquery | replace "+" "%20") | quote }}
    format: json
    valueLocation: total
    targetValue: {{ .perReplica | toString | quote }}
    activationTargetValue: "0"
    {{- if $k.metricsAPI.secret.name }}
    authMode: bearer
  authenticationRef:
    name: {{ include "fusillade.name" .root }}-keda
    {{- end }}
{{- end }}
{{- end }}
