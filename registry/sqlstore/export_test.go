package sqlstore

// LabelRow is a label's row with its key.
func LabelRow(project, promptID, name string) any {
	return &labelRow{Project: project, PromptID: promptID, Name: name}
}
