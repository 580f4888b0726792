package main

import (
	"net/http/pprof"

	"github.com/gin-gonic/gin"
)

// profiles serves Go's profiles where `go tool pprof` looks for them. They name functions and addresses, no data of callers.
func profiles(engine *gin.Engine) {
	at := engine.Group("/debug/pprof")
	at.GET("/", gin.WrapF(pprof.Index))
	at.GET("/profile", gin.WrapF(pprof.Profile))
	at.GET("/trace", gin.WrapF(pprof.Trace))
	for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"} {
		at.GET("/"+name, gin.WrapH(pprof.Handler(name)))
	}
}
