// Command metrics-check reads metrics in Prometheus' text format from its input and names what Prometheus would not read, and what
// goes against its rules for names, types and help. It does so by the package that `promtool check metrics` calls; promtool itself
// takes many times as long to build.
package main

import (
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func main() {
	problems, err := promlint.New(os.Stdin).Lint()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	for _, problem := range problems {
		fmt.Fprintf(os.Stderr, "error: %s: %s\n", problem.Metric, problem.Text)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}
