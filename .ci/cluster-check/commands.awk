# The commands of the section Kubernetes of docs/operations/running.md, each ended by a NUL: those of its blocks, and those in its text.
function say() { if (command != "") printf "%s%c", command, 0; command = "" }
/^## / { inside = $0 == "## Kubernetes"; next }
!inside { next }
/^```console$/ { block = 1; next }
/^```$/ { say(); block = 0; next }
block && /^\$ / { say(); command = substr($0, 3); next }
block { command = command "\n" $0; next }
{
  rest = $0
  while (match(rest, /`kubectl [^`]*`/)) {
    printf "%s%c", substr(rest, RSTART + 1, RLENGTH - 2), 0
    rest = substr(rest, RSTART + RLENGTH)
  }
}
