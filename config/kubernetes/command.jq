# A Pod that runs one command with what the Deployment, or the StatefulSet, has: image, configuration, secrets, and the labels that
# the NetworkPolicy goes by. Its name is d02-source-command.
#
#   kubectl get deployment d02-source -o json | jq -f command.jq --arg command "cursor reset acme" | kubectl create -f -

.spec.template as $template
| {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: (.metadata.name + "-command"), namespace: .metadata.namespace, labels: $template.metadata.labels },
    spec: (
      $template.spec
      | .restartPolicy = "Never"
      | .containers[0] |= (
          del(.ports, .startupProbe, .livenessProbe, .readinessProbe)
          # For `cursor import LENDER -`, which waits for it.
          | .stdin = true
          | .stdinOnce = true
          | .args = ["--config", "/etc/d02-source/d02-source.toml"] + ($command / " ")
        )
    )
  }
