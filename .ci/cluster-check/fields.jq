# What became of what was sent? Inputs: the object as it was sent, and as the API server shows it. A line for each field that was lost, is
# another, or was added, which is a default.

def leaves: paths(type as $type | ($type != "object" and $type != "array") or length == 0);
def name: map(if type == "number" then "[\(.)]" else ".\(.)" end) | add;
# As it was sent, a Secret may have text; it is shown as bytes.
def shown: if .kind == "Secret" then .data = (.stringData | map_values(@base64)) | del(.stringData) else . end;
# What each object has by being one.
def own: del(.status, .spec.template.metadata.creationTimestamp, .metadata["uid", "resourceVersion", "creationTimestamp", "generation", "namespace", "managedFields"],
    .metadata.annotations["kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision"])
  | if .metadata.annotations == {} then del(.metadata.annotations) else . end
  | if .kind == "ServiceAccount" then del(.secrets) else . end;

(input | shown | own) as $sent | (input | own) as $read
| ($sent | [leaves]) as $was
| ($was[] as $path | (try ($read | getpath($path)) catch null) as $now | ($sent | getpath($path)) as $meant
  | select($now != $meant) | "\($sent.kind)\($path | name): \($meant | tojson) was sent, \($now | tojson) is there"),
  ($read | leaves as $path | select(try ($sent | getpath($path) == null) catch true)
  | "\($sent.kind)\($path | name) = \($read | getpath($path) | tojson)")
