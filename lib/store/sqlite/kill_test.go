package sqlite

const childVar = "UNIBUS_TEST_SQLITE_CHILD"

func child(string) int { return 1 }
