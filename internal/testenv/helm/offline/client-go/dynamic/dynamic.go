// Package dynamic stands in for client-go's: rendering talks to no cluster.
package dynamic

import (
	"context"
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// Interface has no implementation.
type Interface interface {
	Resource(schema.GroupVersionResource) NamespaceableResourceInterface
}

// ResourceInterface has no implementation.
type ResourceInterface interface {
	Get(ctx context.Context, name string, o metav1.GetOptions, sub ...string) (*unstructured.Unstructured, error)
	List(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error)
}

// NamespaceableResourceInterface has no implementation.
type NamespaceableResourceInterface interface {
	Namespace(string) ResourceInterface
	ResourceInterface
}

// NewForConfig always fails.
func NewForConfig(*rest.Config) (Interface, error) { return nil, errors.New("no cluster") }
