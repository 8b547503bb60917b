package hostile_test

const admitGo = "lib/frame/admit.go"

var recordLies, keyLies, frameLies, memberLies, replayLies, publishLies, accessLies []lie
