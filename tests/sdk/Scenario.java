// The scenario of test_sdk.py through the client of openapi-generator's `java`, library `native`.

import com.fasterxml.jackson.annotation.JsonInclude.Include;
import com.fasterxml.jackson.databind.ObjectMapper;
import imageapi.client.ApiClient;
import imageapi.client.ApiException;
import imageapi.client.ApiResponse;
import imageapi.client.api.AlbumsApi;
import imageapi.client.api.EventsApi;
import imageapi.client.api.ImagesApi;
import imageapi.client.api.QueueApi;
import imageapi.client.api.TagsApi;
import imageapi.client.model.AlbumEvent;
import imageapi.client.model.Image;
import imageapi.client.model.ImageChanges;
import imageapi.client.model.ImageState;
import imageapi.client.model.Problem;
import imageapi.client.model.TagChanges;
import imageapi.client.model.TagCount;
import java.io.File;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Scenario {
  static final UUID PICTURE = UUID.fromString("6f1cbd5e-6f2e-4e0b-9d0c-2f6a3c1f7a10");
  static final Pattern NEXT = Pattern.compile("after=([^&>]+)");
  static final ObjectMapper JSON = ApiClient.createDefaultObjectMapper();

  interface Call {
    Object make() throws ApiException;
  }

  static ApiClient client(String token) {
    ApiClient client = new ApiClient();
    client.updateBaseUri(System.getenv("HOST"));
    String value = "Token token=\"" + token + "\"";
    client.setRequestInterceptor(request -> request.header("Authorization", value));
    return client;
  }

  static Map<String, Object> refused(Call call) throws Exception {
    try {
      call.make();
    } catch (ApiException error) {
      Problem problem = JSON.readValue(error.getResponseBody(), Problem.class);
      return Map.of(
          "status", error.getCode(), "type", problem.getType(), "detail", problem.getDetail());
    }
    throw new AssertionError("it was not refused");
  }

  static List<UUID> ids(List<Image> images) {
    return images.stream().map(Image::getPublicId).toList();
  }

  public static void main(String[] arguments) throws Exception {
    Map<String, Object> said = new HashMap<>();
    String album = System.getenv("ALBUM");
    String thousand = System.getenv("THOUSAND");
    ApiClient mine = client(System.getenv("TOKEN"));
    QueueApi queue = new QueueApi(mine);
    ImagesApi images = new ImagesApi(mine);
    TagsApi tags = new TagsApi(mine);

    File photo = new File(System.getenv("PHOTO"));
    List<String> none = List.of(); // where null is none, the generated code fails
    Image image = images.uploadImage(album, photo, PICTURE, "38.71375", "-9.139333", null, none);
    boolean isWhole = image.getInfos().getBytes() == photo.length();
    said.put(
        "uploaded",
        List.of(image.getInfos().getFormat(), image.getWidth(), image.getHeight(), isWhole));
    boolean isAbsent = image.getInfos().getLocation() == null;
    said.put("placed", Arrays.asList(image.getGps(), image.getGpsIp(), isAbsent));
    said.put("queue", ids(queue.listUntaggedImages(album, null, null)));

    tags.tagImage(album, PICTURE, "kitchen", null);
    List<String> given = tags.tagImage(album, PICTURE, "beach/sun ☀", null).getInfos().getTags();
    said.put("tagged", given.subList(1, given.size()));
    TagChanges more = new TagChanges().addPublicIdsItem(PICTURE).addAddItem("été");
    var changed = tags.tagImages(album, more);
    said.put("many", List.of(changed.getImages(), changed.getVersion() > 0));
    said.put("queue_after", ids(queue.listUntaggedImages(album, null, null)));
    Map<String, Long> counts = new HashMap<>();
    for (TagCount each : tags.listTags(album)) {
      counts.put(each.getTag(), each.getImages());
    }
    said.put("tags", counts);

    int pages = 0;
    List<UUID> seen = new ArrayList<>();
    String after = null;
    String total = null;
    do {
      ApiResponse<List<Image>> page =
          queue.listUntaggedImagesWithHttpInfo(thousand, 300, after);
      total = page.getHeaders().get("x-total-count").get(0);
      List<String> links = page.getHeaders().getOrDefault("link", List.of(""));
      Matcher link = NEXT.matcher(links.get(0));
      after = link.find() ? link.group(1) : null;
      seen.addAll(ids(page.getData()));
      pages++;
    } while (after != null);
    said.put("pages", List.of(pages, seen.size(), new HashSet<>(seen).size(), total));

    OffsetDateTime first = OffsetDateTime.parse("2020-01-01T00:30:00Z");
    OffsetDateTime last = OffsetDateTime.parse("2020-01-01T01:00:00Z");
    List<String> both = List.of("kitchen", "beach/sun ☀");
    String box = "-10,38,-9,39";
    said.put(
        "filtered",
        List.of(
            images.listImages(album, null, null, both, null, null, null, null, null).size(),
            images.listImages(thousand, null, null, null, null, first, last, null, null).size(),
            images.listImages(album, null, null, null, false, null, null, box, null).size(),
            images.listImages(album, null, null, null, null, null, null, null, "tiff").size()));

    ImageChanges quarter = new ImageChanges().rotation(ImageChanges.RotationEnum.NUMBER_90);
    said.put("stale", refused(() -> images.updateImage(album, PICTURE, quarter, "\"1\"")));
    said.put("turned", images.updateImage(album, PICTURE, quarter, null).getRotation());
    ImageChanges place = new ImageChanges().gpsHtml(List.of(48.5, 2.25));
    Image moved = images.updateImage(album, PICTURE, place, null);
    said.put("moved", List.of(moved.getGpsHtml(), moved.getRotation()));

    QueueApi stranger = new QueueApi(client("not.a.token"));
    said.put("refused", refused(() -> stranger.listUntaggedImages(album, null, null)));
    TagsApi reader = new TagsApi(client(System.getenv("READER")));
    said.put("missing", refused(() -> reader.tagImage(album, PICTURE, "no", null)));

    String id = PICTURE.toString();
    for (AlbumEvent event : new EventsApi(mine).listEvents(album, null, null)) {
      if (event.getPublicIds().equals(List.of(PICTURE)) && event.getKind().equals("add")) {
        ImageState state = event.getAfter().get(id);
        boolean isNull = event.getBefore().containsKey(id) && event.getBefore().get(id) == null;
        said.put(
            "event",
            Arrays.asList(event.getKind(), isNull, state.getTags(), state.getRotation()));
      }
    }
    var token = new AlbumsApi(mine).getToken();
    said.put("token", token.getAbilities().get(album).getAccess().get("image_tag"));

    UUID record = UUID.fromString(System.getenv("RECORD"));
    said.put("record", images.getImage(album, record, null));
    // The client's own mapper leaves nulls out when it writes; its types hold them.
    System.out.println(JSON.setSerializationInclusion(Include.ALWAYS).writeValueAsString(said));
  }
}
