module more

go 1.22
