package hostile_test

import "regexp"

var publishLies, accessLies []lie

var lastPlace = regexp.MustCompile(`"last":[0-9]+`)
