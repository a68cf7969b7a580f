package bolt_test
func childCommit(){}
func childLimit(){}
