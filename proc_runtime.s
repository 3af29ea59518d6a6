// This file lets proc_runtime.go declare functions without bodies.
