package wire

// Files is the upload of a file that its provider keeps: a form. A model in it says who serves it and goes no further.
type Files struct{ passed }

var _ Passed = Files{}

// FilesAPI is the name of the APIs of files, BatchesAPI that of batches.
const (
	FilesAPI   = "files"
	BatchesAPI = "batches"
)

// Name implements API.
func (Files) Name() string { return FilesAPI }

// Endpoint implements API.
func (Files) Endpoint() string { return FilesAPI }

// Multipart implements Passed.
func (Files) Multipart() bool { return true }

// Stores implements API.
func (Files) Stores() bool { return true }

// Keeps implements API.
func (Files) Keeps() bool { return true }

// Free implements API.
func (Files) Free() bool { return true }

// ReadAnswer implements API.
func (Files) ReadAnswer(body []byte) (c Completion, whole bool) {
	return Conversations{}.ReadAnswer(body)
}

// KeptFile is a file that a provider keeps, as it is asked for or deleted.
type KeptFile struct{ KeptResponse }

var _ API = KeptFile{}

// Name implements API.
func (KeptFile) Name() string { return FilesAPI }

// Free implements API.
func (KeptFile) Free() bool { return true }

// FileContent is what a file holds: an answer of any type and size.
type FileContent struct{ KeptFile }

var _ API = FileContent{}

// Batches is the making of a batch: requests that a file holds, which its provider answers within a day.
type Batches struct{ Conversations }

var _ API = Batches{}

// Name implements API.
func (Batches) Name() string { return BatchesAPI }

// Endpoint implements API.
func (Batches) Endpoint() string { return BatchesAPI }

// Free implements API.
func (Batches) Free() bool { return false }

// RunsOn implements API.
func (Batches) RunsOn(*Body, []Edit) bool { return true }

// Unserved implements API.
func (Batches) Unserved(*Body) (param string) { return "" }

// BatchTier is the service tier of batches: price lists say nothing of it.
const BatchTier = "batch"

// The last states of a batch that did not come to its end.
const (
	BatchFailed    = "failed"
	BatchExpired   = "expired"
	BatchCancelled = "cancelled"
)

// ReadAnswer implements API: its Items are the files that the provider made of it.
func (Batches) ReadAnswer(body []byte) (c Completion, whole bool) {
	w, ok := walkInto(body, '{')
	for ok {
		var key, value []byte
		if key, value, ok = w.member(); !ok {
			break
		}
		switch string(key) {
		case `"id"`:
			setString(&c.ID, value)
		case `"status"`:
			setString(&c.Finish, value)
		case `"usage"`:
			if len(value) <= maxCapture {
				c.take(FieldUsage, value)
			}
		case `"output_file_id"`, `"error_file_id"`:
			var id string
			if setString(&id, value); id != "" {
				c.Items = append(c.Items, id)
			}
		}
	}
	if c.ID != "" {
		c.Answers = 1
	}
	c.Tier, c.Mixed = BatchTier, false
	switch c.Finish {
	case "validating", "in_progress", "finalizing", "cancelling":
		c.Running = c.ID != ""
	}
	return c, w.closed('}')
}

// KeptBatch is a batch, as it is asked for or cancelled.
type KeptBatch struct{ KeptResponse }

var _ API = KeptBatch{}

// Name implements API.
func (KeptBatch) Name() string { return BatchesAPI }
