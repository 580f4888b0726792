// Package gateway is the data plane: OpenAI's endpoints over managed prompts.
//
// A request goes down one pipeline, written as one expression in pipeline.go; each stage is a file. Whatever a stage finds wrong
// ends the call before the provider is asked, and what happened is recorded before the answer ends. *gin.Context never leaves a
// handler: below it there are a context.Context and a pooled request struct.
package gateway
