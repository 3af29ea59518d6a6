module github.com/sessile-go/sessile

go 1.26
