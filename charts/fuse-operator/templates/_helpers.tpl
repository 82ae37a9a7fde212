{{- define "fuse-operator.name" -}}
{{- printf "%s" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "fuse-operator.selectorLabels" -}}
app.kubernetes.io/name: fuse-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* managed-by is Helm here on purpose: the operator watches only what carries its own name. */ -}}
{{- define "fuse-operator.labels" -}}
{{ include "fuse-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: fuse
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "fuse-operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* What one operator does with the children; the same list as a ClusterRole or as Roles. Each rule says why. */ -}}
{{- define "fuse-operator.rules" -}}
# The resource itself: read it, write its status, and set it as owner of its children.
- apiGroups: [fuse.trading]
  resources: [fusetradingservices]
  verbs: [list, watch]
- apiGroups: [fuse.trading]
  resources: [fusetradingservices/status]
  verbs: [patch]
- apiGroups: [fuse.trading]
  resources: [fusetradingservices/finalizers]
  verbs: [update]
# The children: watched, applied (create and patch), pruned; get looks whether a name is already taken.
- apiGroups: [""]
  resources: [serviceaccounts, services, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch, delete]
# Migration Jobs are made once and removed by their TTL, never by us.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch]
# One event per transition.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- define "fuse-operator.secretRules" -}}
# Metadata of the Secrets that resources name, to say which one is missing. Values are never asked for.
- apiGroups: [""]
  resources: [secrets]
  verbs: [list, watch]
{{- end -}}

{{- define "fuse-operator.watchesSecrets" -}}
{{- if and .Values.secretRotation.enabled (or .Values.watchNamespaces .Values.secretRotation.allowClusterWide) -}}true{{- end -}}
{{- end -}}
