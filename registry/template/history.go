package template

import (
	"encoding/json"
	"errors"
)

// historyValue is the items of a placeholder's variable, as they were sent.
func historyValue(raw json.RawMessage) (value, error) {
	if err := checkHistory(raw); err != nil {
		return value{}, err
	}
	items, err := arrayItems(raw)
	return value{kind: valueJSON, raw: items}, err
}

// arrayItems is what stands between the brackets of a JSON array, without white space around it.
func arrayItems(raw []byte) ([]byte, error) {
	raw = trimSpace(raw)
	if len(raw) == 0 {
		return nil, nil
	}
	if raw[0] != '[' || raw[len(raw)-1] != ']' || len(raw) < 2 {
		return nil, errors.New("not an array")
	}
	return trimSpace(raw[1 : len(raw)-1]), nil
}

func appendItems(dst, items []byte) []byte {
	if len(items) == 0 {
		return dst
	}
	return append(appendComma(dst), items...)
}
