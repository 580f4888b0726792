// Command render is `helm template` without a cluster: Helm's own engine, values and schema. It prints a JSON object of the rendered files
// by their path in the chart. Unlike helm it refuses a template that names a value which values.yaml has not.
//
//	render <chart> <values.yaml>…
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

const kubeVersion = "v1.30.0" // the oldest that the chart says it works on

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("name a chart, then files of values")
	}
	chart, err := loader.Load(args[0])
	if err != nil {
		return err
	}
	if err := chart.Validate(); err != nil {
		return err
	}
	if !chartutil.IsCompatibleRange(chart.Metadata.KubeVersion, kubeVersion) {
		return fmt.Errorf("the chart wants Kubernetes %s, not %s", chart.Metadata.KubeVersion, kubeVersion)
	}
	values := chartutil.Values{}
	for _, name := range args[1:] {
		more, err := chartutil.ReadValuesFile(name)
		if err != nil {
			return err
		}
		values = chartutil.CoalesceTables(more, values)
	}
	caps := *chartutil.DefaultCapabilities
	caps.KubeVersion = chartutil.KubeVersion{Version: kubeVersion, Major: "1", Minor: "30"}
	release := chartutil.ReleaseOptions{Name: "promptgate", Namespace: "gateways", Revision: 1, IsInstall: true}
	top, err := chartutil.ToRenderValues(chart, values, release, &caps)
	if err != nil {
		return err
	}
	files, err := engine.Engine{Strict: true}.Render(chart, top)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(files)
}
