package hostile_test

const admitGo = "lib/frame/admit.go"

var frameLies, memberLies, replayLies, publishLies, accessLies []lie
