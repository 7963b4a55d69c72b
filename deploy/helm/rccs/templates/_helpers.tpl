{{/* The name that everything begins with: the release's. */}}
{{- define "rccs.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "rccs.server" -}}{{ include "rccs.name" . }}-server{{- end -}}
{{- define "rccs.edge" -}}{{ include "rccs.name" . }}-edge{{- end -}}

{{- define "rccs.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "rccs.labels" -}}
app.kubernetes.io/name: rccs
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* What finds the pods of a component: (dict "root" . "component" "edge"). */}}
{{- define "rccs.selector" -}}
app.kubernetes.io/name: rccs
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The URLs of all servers, by the names that they keep over restarts. */}}
{{- define "rccs.urls" -}}
{{- $server := include "rccs.server" . -}}
{{- $urls := list -}}
{{- range $i := until (int .Values.server.replicas) -}}
{{- $urls = append $urls (printf "nats://%s-%d.%s:4222" $server $i $server) -}}
{{- end -}}
{{- join "," $urls -}}
{{- end -}}

{{- define "rccs.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
# Volumes and secrets belong to root, and this group may read and write them.
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "rccs.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "rccs.probes" -}}
# The admin address answers before anything that may take long.
startupProbe:
  httpGet: { path: /healthz, port: admin }
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /healthz, port: admin }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
# Ready means that a message could be accepted now; of a server also that its
# copies have caught up, so that a rolling upgrade waits for that.
readinessProbe:
  httpGet: { path: /readyz, port: admin }
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{- define "rccs.spread" -}}
{{- range .root.Values.topologyKeys }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "rccs.selector" $ | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "rccs.prometheus" -}}
prometheus.io/scrape: "true"
prometheus.io/port: "8081"
prometheus.io/path: /metrics
{{- end -}}

{{- define "rccs.env" -}}
{{- range $name, $value := . }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end -}}
