// Serves files with Go's http.FileServer, and the header fields of the package's servers.
//
//	go build -o go_server go_server.go && ./go_server DIR
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	host, pad := os.Getenv("BENCH_HOST"), os.Getenv("BENCH_PAD")
	if host == "" {
		host = "127.0.0.1"
	}
	listener, err := net.Listen("tcp4", host+":0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	files := http.FileServer(http.Dir(os.Args[1]))
	panic(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// FileServer itself sends Accept-Ranges, Content-Length, Last-Modified and a type by the name.
		w.Header().Set("Etag", `"100000-6b013e87.28599f8e"`)
		w.Header().Set("Content-Type", "application/octet-stream")
		if pad != "" {
			w.Header().Set("X-Pad", pad)
		}
		files.ServeHTTP(w, r)
	})))
}
