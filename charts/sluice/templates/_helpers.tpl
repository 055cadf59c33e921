{{- define "sluice.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "sluice.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "sluice.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "sluice.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "sluice.operator" -}}
{{ include "sluice.fullname" . }}-operator
{{- end }}

{{- define "sluice.webhook" -}}
{{ include "sluice.fullname" . }}-webhook
{{- end }}

{{/* Name of what has no namespace: two releases must not share it. */}}
{{- define "sluice.clusterName" -}}
{{ include "sluice.fullname" . }}-{{ .Release.Namespace }}
{{- end }}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: {{ include "sluice.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "sluice.image" -}}
{{- with .Values.image }}
{{- $name := .repository }}
{{- if .registry }}{{ $name = printf "%s/%s" .registry .repository }}{{ end }}
{{- if .digest }}{{ printf "%s@%s" $name .digest }}{{ else }}{{ printf "%s:%s" $name (default $.Chart.AppVersion .tag) }}{{ end }}
{{- end }}
{{- end }}

{{- define "sluice.pullSecrets" -}}
{{- $names := list }}
{{- range . }}{{ $names = append $names .name }}{{ end }}
{{- join "," $names }}
{{- end }}

{{- define "sluice.serviceAccount" -}}
{{- default (include "sluice.operator" .) .Values.operator.serviceAccount.name }}
{{- end }}

{{/* The namespaces that are served, separated by commas; nothing for all. */}}
{{- define "sluice.namespaces" -}}
{{- if eq .Values.scope "Namespaced" }}
{{- join "," (default (list .Release.Namespace) .Values.watchNamespaces | uniq | sortAlpha) }}
{{- end }}
{{- end }}

{{/* What the operator may do in a namespace that it serves. */}}
{{- define "sluice.operatorRules" -}}
# Our kinds are read, and only their status is written.
- apiGroups: [sluice.dev]
  resources: [streams, lookuptables, rules, runtimes]
  verbs: [list, watch]
- apiGroups: [sluice.dev]
  resources: [streams/status, lookuptables/status, rules/status, runtimes/status]
  verbs: [patch]
# What a runtime is made of. All of it belongs to the ServiceAccount or to the Runtime object, so the garbage collector removes the
# rest. Server-side apply of a new object asks for create beside patch.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, create, patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch, create, patch]
# Secrets are read by name; nothing lists or watches them.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
# An annotation on a pod makes the kubelet refresh its volumes at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
