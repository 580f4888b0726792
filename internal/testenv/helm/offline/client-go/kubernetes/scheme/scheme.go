// Package scheme stands in for client-go's: charts that ask for API versions find none.
package scheme

import "k8s.io/apimachinery/pkg/runtime"

// Scheme is empty.
var Scheme = runtime.NewScheme()
