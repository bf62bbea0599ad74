// The scenario of test_sdk.py through the client of openapi-generator's `go`.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"time"

	imageapi "example.org/imageapi/client/imageapi"
)

const picture = "6f1cbd5e-6f2e-4e0b-9d0c-2f6a3c1f7a10"

type list []any

func client(token string) *imageapi.APIClient {
	configuration := imageapi.NewConfiguration()
	configuration.Servers[0].URL = os.Getenv("HOST")
	configuration.AddDefaultHeader("Authorization", fmt.Sprintf(`Token token="%s"`, token))
	return imageapi.NewAPIClient(configuration)
}

func must[T any](value T, _ *http.Response, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func refused(answer *http.Response, err error) map[string]any {
	var refusal *imageapi.GenericOpenAPIError
	if !errors.As(err, &refusal) {
		panic(fmt.Sprint("not refused: ", err))
	}
	problem := refusal.Model().(imageapi.Problem)
	return map[string]any{"status": answer.StatusCode, "type": problem.Type, "detail": problem.Detail}
}

func ids(images []imageapi.Image) []string {
	found := []string{}
	for _, each := range images {
		found = append(found, each.PublicId)
	}
	return found
}

func main() {
	said := map[string]any{}
	ctx := context.Background()
	album, thousand := os.Getenv("ALBUM"), os.Getenv("THOUSAND")
	mine := client(os.Getenv("TOKEN"))
	queue, images, tags := mine.QueueAPI, mine.ImagesAPI, mine.TagsAPI

	photo, err := os.Open(os.Getenv("PHOTO"))
	if err != nil {
		panic(err)
	}
	size, _ := photo.Stat()
	upload := images.UploadImage(ctx, album).File(photo).PublicId(picture)
	image := must(upload.Latitude("38.71375").Longitude("-9.139333").Execute())
	isWhole := image.Infos.Bytes == size.Size()
	said["uploaded"] = list{image.Infos.Format, image.Width, image.Height, isWhole}
	said["placed"] = list{image.Gps, image.GpsIp, image.Infos.Location == nil}
	said["queue"] = ids(must(queue.ListUntaggedImages(ctx, album).Execute()))

	must(tags.TagImage(ctx, album, picture, "kitchen").Execute())
	tagged := must(tags.TagImage(ctx, album, picture, "beach/sun ☀").Execute())
	said["tagged"] = tagged.Infos.Tags[1:]
	changes := imageapi.NewTagChanges([]string{picture})
	changes.Add = []string{"été"}
	changed := must(tags.TagImages(ctx, album).TagChanges(*changes).Execute())
	said["many"] = list{changed.Images, changed.Version > 0}
	said["queue_after"] = ids(must(queue.ListUntaggedImages(ctx, album).Execute()))
	counts := map[string]int64{}
	for _, each := range must(tags.ListTags(ctx, album).Execute()) {
		counts[each.Tag] = each.Images
	}
	said["tags"] = counts

	pages, after, total := 0, "", ""
	seen, different := 0, map[string]bool{}
	next := regexp.MustCompile("after=([^&>]+)")
	for pages == 0 || after != "" {
		request := queue.ListUntaggedImages(ctx, thousand).Limit(300)
		if after != "" {
			request = request.After(after)
		}
		page, answer, err := request.Execute()
		if err != nil {
			panic(err)
		}
		for _, each := range page {
			seen++
			different[each.PublicId] = true
		}
		total, after = answer.Header.Get("X-Total-Count"), ""
		if link := next.FindStringSubmatch(answer.Header.Get("Link")); link != nil {
			after = link[1]
		}
		pages++
	}
	said["pages"] = list{pages, seen, len(different), total}

	first := time.Date(2020, 1, 1, 0, 30, 0, 0, time.UTC)
	last := time.Date(2020, 1, 1, 1, 0, 0, 0, time.UTC)
	of := images.ListImages(ctx, album)
	between := images.ListImages(ctx, thousand).CreatedAfter(first).CreatedBefore(last)
	said["filtered"] = list{
		len(must(of.Tag([]string{"kitchen", "beach/sun ☀"}).Execute())),
		len(must(between.Execute())),
		len(must(of.Bbox("-10,38,-9,39").Untagged(false).Execute())),
		len(must(of.Format("tiff").Execute())),
	}

	quarter := imageapi.NewImageChanges()
	quarter.SetRotation(90)
	change := images.UpdateImage(ctx, album, picture).ImageChanges(*quarter)
	_, answer, err := change.IfMatch(`"1"`).Execute()
	said["stale"] = refused(answer, err)
	said["turned"] = must(change.Execute()).Rotation
	place := imageapi.NewImageChanges()
	place.SetGpsHtml([]float64{48.5, 2.25})
	moved := must(images.UpdateImage(ctx, album, picture).ImageChanges(*place).Execute())
	said["moved"] = list{moved.GpsHtml, moved.Rotation}

	_, answer, err = client("not.a.token").QueueAPI.ListUntaggedImages(ctx, album).Execute()
	said["refused"] = refused(answer, err)
	reader := client(os.Getenv("READER"))
	_, answer, err = reader.TagsAPI.TagImage(ctx, album, picture, "no").Execute()
	said["missing"] = refused(answer, err)

	for _, event := range must(mine.EventsAPI.ListEvents(ctx, album).Execute()) {
		if event.PublicIds[0] == picture && event.Kind == "add" {
			state := event.After[picture]
			before, named := event.Before[picture]
			isNull := named && before == nil
			said["event"] = list{event.Kind, isNull, state.Tags, state.Rotation}
		}
	}
	token := must(mine.AlbumsAPI.GetToken(ctx).Execute())
	said["token"] = token.Abilities[album].Access["image_tag"]

	said["record"] = must(images.GetImage(ctx, album, os.Getenv("RECORD")).Execute())
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		panic(err)
	}
}
